"""The file beside a result: where it comes from. The client writes it, and nothing else may stand in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["PROVENANCE", "ProvenanceInvalid", "provenance_text", "read_provenance"]

PROVENANCE = (
    "kind", "person_pseudo_id", "study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid",
    "source_series_instance_uid", "source_object_digest", "source_sop_instance_uids", "release_id", "release_digest",
    "algorithm", "software", "created_at", "digest",
)  # fmt: skip
_LISTS = ("source_sop_instance_uids",)
_ALGORITHM = "algorithm"
_MOST = 64 << 20  # characters
_UID = re.compile(r"[0-9.]{1,64}")


class ProvenanceInvalid(ValueError):
    """What is wrong with it, in words; a value is quoted only when it is a name of DICOM."""


def provenance_text(told: Mapping[str, Any]) -> str:
    """The file: equal for equal provenance."""
    return json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False)


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance of a result.

    Raises
    ------
    ProvenanceInvalid
        With all problems.
    """
    try:
        told = json.loads(_text(path))
        provenance_text(told).encode()  # half a surrogate is JSON, and no text
    except FileNotFoundError:
        raise ProvenanceInvalid("it has no provenance: NAME.json beside NAME.dcm") from None
    except (OSError, ValueError, RecursionError):
        raise ProvenanceInvalid("its provenance cannot be read as JSON") from None
    if not isinstance(told, dict):
        raise ProvenanceInvalid("its provenance is no JSON object")
    if problems := list(_problems(told)):
        raise ProvenanceInvalid("; ".join(problems))
    return told


def _text(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        if len(text := file.read(_MOST + 1)) > _MOST:
            raise ValueError(f"more than {_MOST} characters")
    return text


def _problems(told: Mapping[str, Any]) -> Iterator[str]:
    if missing := [name for name in PROVENANCE if name not in told]:
        yield f"its provenance does not tell {', '.join(missing)}"
    if told.keys() - set(PROVENANCE):
        yield "its provenance tells more than provenance has"
    for name in told.keys() & set(PROVENANCE) - {_ALGORITHM, *_LISTS}:
        if not isinstance(told[name], str) or not told[name]:
            yield f"{name} of its provenance is no text"
        elif name.endswith("_uid") and not _UID.fullmatch(told[name]):
            yield f"{name} of its provenance is no UID"
    for name in _LISTS:
        if name in told and not _are_texts(told[name]):
            yield f"{name} of its provenance is no list of texts"
    if _ALGORITHM in told and not _is_algorithm(told[_ALGORITHM]):
        yield "the algorithm of its provenance is not name, version and parameters (texts by name)"
    if isinstance(told.get("created_at"), str) and not _is_moment(told["created_at"]):
        yield "created_at of its provenance is no time with an offset from UTC (ISO 8601)"


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_algorithm(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"name", "version", "parameters"}:
        return False
    parameters = value["parameters"]
    texts = [value["name"], value["version"]]
    if not isinstance(parameters, dict):
        return False
    return all(isinstance(one, str) for one in (*texts, *parameters.values())) and all(texts)


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
