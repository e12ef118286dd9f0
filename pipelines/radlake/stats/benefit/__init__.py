"""What sharing images saves, and what it cannot be shown to save.

`claims` checks printed figures against their own formulas, `film` compares two periods, `dose` turns what machines
report into estimates, `duplicates` prices repeats, `effect` estimates what a roll-out caused.
"""
