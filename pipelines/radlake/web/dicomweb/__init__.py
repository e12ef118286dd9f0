"""DICOMweb over the lake, for reading: QIDO-RS and WADO-RS (PS3.18) of de-identified objects.

`attributes` and `query` read what is searched for, `catalogue` finds it in the tables, `pixels` reads ranges of series
objects, `app` answers requests. Nothing is held of a study but what one piece of an answer needs (docs/adr/0042).
"""

from __future__ import annotations

__all__ = ["ROOT"]

ROOT = "/dicom-web"
