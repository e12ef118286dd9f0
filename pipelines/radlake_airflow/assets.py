"""Assets: what a DAG leaves behind, and what another one waits for."""

from __future__ import annotations

from typing import Final

from airflow.sdk import Asset

__all__ = ["DICOM", "STATS"]

DICOM: Final = Asset("radlake://lake/dicom")
STATS: Final = Asset("radlake://lake/stats")
