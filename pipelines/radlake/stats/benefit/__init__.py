"""What sharing images saves, and what it cannot be shown to save.

`claims` checks printed figures against their own formulas, `film` compares two periods, `repeats` prices repeats and
says what a roll-out changed (`effect`), `reminders` counts what was given up, `storage` measures bytes. Doses are in
sql/core/exam_dose_v1.
"""
