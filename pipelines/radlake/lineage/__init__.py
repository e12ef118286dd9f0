"""Lineage: from a number that was shown back to the query, the snapshot, the exams and the harvest that it came from.

`number` is how a number is named, `rerun` calculates tables again at the versions they were made from, `exams` finds
the exams of a cell, `pixels` leads from exams to series objects and harvest events, `trace` goes the whole way.
"""
