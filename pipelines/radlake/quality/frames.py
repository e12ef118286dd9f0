"""The three tables of a batch as pandas frames, each with what the other two say about its rows.

Added columns carry the name of what they hold: `n(dicom.instance)` is counted, `study.study_month` is looked
up, and is missing when there is nothing to look up. Rows keep their order and number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frames_from_tables"]

STUDY_KEY = ["hospital_id", "study_instance_uid"]
OBJECT_KEY = ["hospital_id", "series_instance_uid", "object_path"]


def frames_from_tables(tables: Mapping[str, pa.Table]) -> dict[str, pd.DataFrame]:
    """Frames of `dicom.study`, `dicom.series` and `dicom.instance`, with the related columns added."""
    import pandas as pd  # half a second, and few commands need it

    nullable = {pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    study, series, instance = (
        tables[name].to_pandas(types_mapper=nullable.get) for name in ("dicom.study", "dicom.series", "dicom.instance")
    )
    months = study[[*STUDY_KEY, "study_month"]].rename(columns={"study_month": "study.study_month"})
    objects = series[[*OBJECT_KEY, "object_bytes"]].rename(columns={"object_bytes": "series.object_bytes"})
    n_series = series.drop_duplicates([*STUDY_KEY, "series_instance_uid"])
    instance["object_end"] = instance["object_offset"] + instance["instance_bytes"]
    return {
        "dicom.study": _count(
            _count(study, n_series, STUDY_KEY, "n(dicom.series)"), instance, STUDY_KEY, "n(dicom.instance)"
        ),
        "dicom.series": _look_up(_count(series, instance, OBJECT_KEY, "n(dicom.instance)"), months, STUDY_KEY),
        "dicom.instance": _look_up(_look_up(instance, months, STUDY_KEY), objects, OBJECT_KEY),
    }


def _look_up(rows: pd.DataFrame, parents: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    # A missing key matches a missing key in pandas; a repeated one would repeat rows.
    return rows.merge(parents.dropna(subset=key).drop_duplicates(key), how="left", on=key)


def _count(rows: pd.DataFrame, children: pd.DataFrame, key: list[str], name: str) -> pd.DataFrame:
    counted = children.groupby(key).size().to_frame(name).reset_index()
    return _look_up(rows, counted, key).fillna({name: 0})
