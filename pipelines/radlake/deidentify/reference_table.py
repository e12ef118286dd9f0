"""The reference table of de-identification: PS3.15 Table E.1-1, one row per attribute, one column per option.

`schemas/deid/table_e1_1.csv` is made from the standard by this module and never edited by hand:

    python -m radlake.deidentify.reference_table ps3.15_e1-1.json > schemas/deid/table_e1_1.csv

What a profile makes of it is in `profile`.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from pydicom.datadict import dictionary_keyword

from radlake.deidentify.elements import dictionary_vr
from radlake.resources import schemas_root

__all__ = ["OPTIONS", "Row", "reference_rows", "table_edition", "write_table"]

# Our name of each option, its column in the table, and its code in CID 7050 (PS3.16).
OPTIONS = {
    "retain_safe_private": ("rtnSafePrivOpt", "113111"),
    "retain_uids": ("rtnUIDsOpt", "113110"),
    "retain_device_identity": ("rtnDevIdOpt", "113109"),
    "retain_institution_identity": ("rtnInstIdOpt", "113112"),
    "retain_patient_characteristics": ("rtnPatCharsOpt", "113108"),
    "retain_full_dates": ("rtnLongFullDatesOpt", "113106"),
    "retain_modified_dates": ("rtnLongModifDatesOpt", "113107"),
    "clean_descriptors": ("cleanDescOpt", "113105"),
    "clean_structured_content": ("cleanStructContOpt", "113104"),
    "clean_graphics": ("cleanGraphOpt", "113103"),
}
_COLUMNS = ["tag", "keyword", "vr", "retired", "basic", *OPTIONS]
_PRIVATE = "gggg"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    tag : str
        `00100010`; `50xxxxxx` and `60xx3000` stand for repeating groups, `gggg` for all private attributes.
    vr : str
        From PS3.6; empty when pydicom's dictionary is older than the attribute.
    basic : str
        Action of the Basic Profile.
    options : dict
        Action by option, only where the option changes something.
    """

    tag: str
    keyword: str
    vr: str
    is_retired: bool
    basic: str
    options: dict[str, str]

    @property
    def number(self) -> int | None:
        """The tag, None for a repeating group."""
        return int(self.tag, 16) if re.fullmatch(r"[0-9A-F]{8}", self.tag) else None


@cache
def reference_rows() -> tuple[Row, ...]:
    with _table_path().open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return tuple(
            Row(
                tag=line["tag"],
                keyword=line["keyword"],
                vr=line["vr"],
                is_retired=line["retired"] == "Y",
                basic=line["basic"],
                options={option: line[option] for option in OPTIONS if line[option]},
            )
            for line in lines
        )


@cache
def table_edition() -> str:
    """Edition of the standard that the table was made from."""
    with _table_path().open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def write_table(source: dict[str, Any], *, to: TextIO) -> None:
    """Write the CSV from the parsed DocBook table."""
    to.write(f"# {source['edition']}\n# Source: {source['source']}\n# {source['licence']}\n")
    to.write("# Made by radlake.deidentify.reference_table; not edited by hand.\n")
    writer = csv.DictWriter(to, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(map(_row_from_source, source["rows"]), key=lambda row: row["tag"]))


def _row_from_source(row: dict[str, str]) -> dict[str, str]:
    tag = re.sub(r"[(),]", "", row["tag"]).split(" ")[0]
    tag = _PRIVATE if tag.startswith(_PRIVATE) else tag.replace("X", "x") if "x" in tag.lower() else tag.upper()
    number = int(tag, 16) if re.fullmatch(r"[0-9A-F]{8}", tag) else None
    return {
        "tag": tag,
        "keyword": (number is not None and _keyword(number)) or _keyword_from_name(row["name"]),
        "vr": (number is not None and dictionary_vr(number)) or _vr_from_name(row["name"]),
        "retired": row["retired"],
        "basic": row["basicProfile"],
        **{option: row[column] for option, (column, _) in OPTIONS.items()},
    }


def _keyword(number: int) -> str:
    try:
        return dictionary_keyword(number)
    except KeyError:
        return ""


def _keyword_from_name(name: str) -> str:
    """Keyword of an attribute that pydicom does not know yet: the words of its name, joined (PS3.6)."""
    words = re.sub(r"[^A-Za-z0-9 ]", "", name.replace("'s", "")).split()
    return "".join(word[0].upper() + word[1:] for word in words)


def _vr_from_name(name: str) -> str:
    return "SQ" if name.endswith("Sequence") else "DT" if name.endswith("DateTime") else ""


def _table_path() -> Path:
    return schemas_root() / "deid" / "table_e1_1.csv"


if __name__ == "__main__":
    write_table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), to=sys.stdout)
