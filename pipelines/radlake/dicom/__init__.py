"""The DICOM standard: Part 10 files, UIDs, character sets. No network, no policy.

Importing this package silences pydicom's validation warnings, because they quote values, and values name patients;
and lets pydicom show a private value of impossible length as bytes instead of raising.
"""

from __future__ import annotations

from pydicom import config

config.settings.reading_validation_mode = config.IGNORE
config.convert_wrong_length_to_UN = True
