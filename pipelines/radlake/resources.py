"""Where the data files of the package are: `schemas/` and `sql/`.

A wheel carries them in `radlake/_data`; an editable install reads them from the repository root.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_root() -> Path:
    """Folder that holds `schemas/` and `sql/`."""
    packed = _PACKAGE / "_data"
    return packed if packed.is_dir() else _PACKAGE.parent.parent


def schemas_root() -> Path:
    return data_root() / "schemas"


def sql_root() -> Path:
    return data_root() / "sql"
