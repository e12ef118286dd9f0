"""What is known of a vendor's screens: every rule says where it comes from, and fits only what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.pixels import rules
from radlake.pixels.frames import layout_of
from radlake.pixels.rules import known_mask, load_rules
from support.dicom import image_study

VENDORS = {"uih", "neusoft", "wandong", "sonoscape", "mindray", "siui", "chison", "edan", "landwind", "philips", "ge"}


def test_every_vendor_has_a_file_that_says_what_is_known() -> None:
    folder = rules.schemas_root() / "deid" / "pixel_rules"
    assert {path.stem for path in folder.glob("*.yaml")} == VENDORS
    assert len(load_rules()) >= 2


@pytest.mark.parametrize(
    ("manufacturer", "modality", "size", "is_masked"),
    [
        ("Philips Medical Systems", "US", (600, 800), True),
        ("Philips Medical Systems", "US", (768, 1024), False),
        ("Philips Medical Systems", "MR", (600, 800), False),
        ("GE Healthcare", "US", (480, 640), True),
        ("Mindray", "US", (600, 800), False),
    ],
)
def test_a_rule_fits_only_what_it_is_for(
    manufacturer: str, modality: str, size: tuple[int, int], is_masked: bool
) -> None:
    ds = image_study(modality, manufacturer=manufacturer)[0]
    ds.Rows, ds.Columns = size
    if "SequenceOfUltrasoundRegions" in ds:
        del ds.SequenceOfUltrasoundRegions
    assert known_mask(ds, layout_of(ds)).any() == is_masked


def test_all_problems_of_a_file_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deid" / "pixel_rules"
    folder.mkdir(parents=True)
    rule = "{manufacturer: [x], modality: [US], mask: [[0, 0, 10, 10]], why: %s}"
    (folder / "x.yaml").write_text(
        "vendor: X\nknown: nothing\nrules:\n"
        f"  - {rule % ''}\n"
        f"  - {(rule % 'seen')[:-1]}, rows: 5}}\n"
        f"  - {(rule % 'seen')[:-1]}, colour: red}}\n"
    )
    monkeypatch.setattr(rules, "schemas_root", lambda: tmp_path)
    load_rules.cache_clear()
    try:
        with pytest.raises(ConfigInvalid) as caught:
            load_rules()
    finally:
        monkeypatch.undo()
        load_rules.cache_clear()
    for told in ("where it comes from", "both rows and columns", "unknown key colour"):
        assert told in str(caught.value)
