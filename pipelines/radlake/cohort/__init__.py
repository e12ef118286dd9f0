"""Cohorts: defined as files, built from a pinned snapshot, released with keys of their own, pulled and opened.

`definition` is the file, `select` who is in it, `build` its members as files, `release` what may leave.
"""
