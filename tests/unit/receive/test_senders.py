"""Who sends: an AE title at an address, or a token, is of one hospital or of nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radlake.errors import ConfigInvalid, KeyMissing
from radlake.net import Hospital
from radlake.receive.senders import Senders


def hospital(name: str, **push: Any) -> Hospital:
    return Hospital.model_validate({"hospital_id": name, "name_zh": name, "name_en": name, "push": push})


def at_the_hospital(name: str, **push: Any) -> Hospital:
    """One that keeps its pixels, and has a node that they can be fetched from."""
    node = {"kind": "dicomweb", "base_url": "http://10.3.0.1"}
    given = {"hospital_id": name, "name_zh": name, "name_en": name, "storage_policy": "index", "node": node}
    return Hospital.model_validate(given | {"push": push})


def senders(*hospitals: Hospital) -> Senders:
    return Senders(hospitals, path="hospitals.yaml")


def name_of(found: Hospital | None) -> str | None:
    return found.hospital_id if found else None


@pytest.mark.parametrize(
    ("calling", "address", "expected"),
    [
        ("CT01", "10.1.0.9", "h1"),
        ("CT01", "10.2.0.9", "h2"),
        ("CT01", "10.3.0.9", None),
        ("ct01", "10.1.0.9", None),
        ("MR01", "10.1.0.9", None),
        ("MR01", "fd00::1", "h2"),
        ("CT01", "nonsense", None),
    ],
)
def test_the_same_title_is_told_by_its_address(calling: str, address: str, expected: str | None) -> None:
    known = senders(
        hospital("h1", ae_titles=["CT01"], hosts=["10.1.0.0/16"]),
        hospital("h2", ae_titles=["CT01", "MR01"], hosts=["10.2.0.0/16", "fd00::/64"]),
    )
    assert name_of(known.of_association(calling, address)) == expected


def test_a_token_is_read_when_it_is_used(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"secret {name}\n")
    known = senders(*(hospital(name, token=f"file:{tmp_path / name}") for name in ("one", "two")))
    assert name_of(known.of_token("secret two")) == "two"
    assert known.of_token("secret") is None
    (tmp_path / "two").write_text("a newer one")
    assert (known.of_token("secret two"), name_of(known.of_token("a newer one"))) == (None, "two")


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the same")
    token = f"file:{tmp_path / 'token'}"
    with pytest.raises(ConfigInvalid) as caught:
        senders(
            hospital("h1", ae_titles=["CT01"], hosts=["10.1.0.0/16"], token=token),
            hospital("h2", ae_titles=["CT01"], hosts=["10.1.7.0/24"]),
            at_the_hospital("h3", token=token),
        )
    assert [problem.partition(";")[0] for problem in caught.value.facts["problems"]] == [
        "push: h1 and h2 have AE title CT01 at the same addresses",
        "push: h1 and h3 have the same token",
        "push: h3 keeps its pixels (storage_policy: index), so they may not be sent here",
    ]


def test_somebody_must_push_and_every_token_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no hospital pushes"):
        senders()
    with pytest.raises(KeyMissing):
        senders(hospital("h1", token=f"file:{tmp_path / 'none'}"))
