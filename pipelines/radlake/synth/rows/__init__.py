"""A province of exams without images, as rows of the lake: large enough to measure, and with every answer known.

`places` are hospitals and kinds of exams, `exams` are columns, `draw` draws those of a run of persons, `truth` tells
which of them repeat which by comparing all of them, `write` puts them into a lake. None of it shares code with the
statistics.
"""
