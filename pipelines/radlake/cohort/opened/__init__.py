"""A release in Python: tables as data frames, series as lazy volumes, results that come home as DICOM.

    cohort = radlake.open_cohort("~/nodules")          # a folder that was pulled, or the id of a release
    cohort.exams                                       # pandas; cohort.dask("exam") for Dask
    volume = cohort.volume(cohort.series.series_instance_uid[0])
    volume.array.max().compute(), volume.spacing_mm    # nothing is read before

`cohort` is the entrance, `sources` says where bytes come from, `volumes` puts slices in order, `samples` feeds
training, `results` writes what was found.
"""

from __future__ import annotations

from radlake.cohort.opened.cohort import OpenCohort, open_cohort
from radlake.cohort.opened.results import Algorithm, Measurement, Result, Segment
from radlake.cohort.opened.samples import Samples
from radlake.cohort.opened.volumes import LazyVolume, NotAVolume

__all__ = [
    "Algorithm",
    "LazyVolume",
    "Measurement",
    "NotAVolume",
    "OpenCohort",
    "Result",
    "Samples",
    "Segment",
    "open_cohort",
]
