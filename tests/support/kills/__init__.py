"""Commands that are killed at commit points, and the matrix of their kills.

`archive` is what they harvest; `harvests`, `backfills`, `residency` and `upkeep` have the commands; `commands` lists
and runs them; `matrix` kills each at every commit point that it comes by, runs it again and compares.
"""
