"""Synthetic province: hospitals, persons, exams and images from one seed, and PACS that serve them.

`province` draws what happens, `truth` tells which exams are duplicates, `ledgers` the reference tables, `datasets` the
images, `pacs` runs a simulated PACS over an archive of them. Nothing here knows the pipeline.
"""
