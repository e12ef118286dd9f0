"""Repeated exams: which exam repeats which, whether a ground excuses it, and how many of them there are.

`packs` reads the rules. `sequence` lays the exams out by person, exam and time, by the SQL of `layout` and the numbers
of `codes`. `pairs` is the SQL that finds and classes the pairs in one pass over that layout, `rates` counts them,
`shares` adds them up, `why` explains one exam. `recent` tells order entry what a person has had.
"""
