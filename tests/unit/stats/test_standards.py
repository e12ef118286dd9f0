"""Standard populations are those under review, add up to one, and fit populations of other open bands."""

from __future__ import annotations

import shutil
from math import fsum
from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root
from radlake.stats.standards import common_bands, load_standards

STANDARDS = load_standards()


@pytest.mark.parametrize("name", STANDARDS)
def test_weights_add_up_to_one(name: str) -> None:
    assert fsum(STANDARDS[name].weights.values()) == pytest.approx(1, abs=1e-15)
    assert STANDARDS[name].source


def test_the_standards_that_are_there() -> None:
    assert {name: (len(s.weights), float(s.printed_sum)) for name, s in STANDARDS.items()} == {
        "who_2000": (18, 100.03),  # as WHO prints it
        "segi_1960": (17, 100),
        "china_2000": (18, 1242612226),
        "esp_2013": (19, 100000),
    }


def test_the_first_bands_of_china_are_the_published_shares() -> None:
    shares = list(STANDARDS["china_2000"].weights.values())[:7]
    published = (0.055511, 0.072551, 0.100914, 0.082915, 0.076108, 0.094641, 0.102457)
    assert [round(share, 6) for share in shares] == list(published)


def test_a_standard_is_brought_to_the_bands_of_a_population() -> None:
    bands = common_bands(STANDARDS["esp_2013"].weights, STANDARDS["who_2000"].weights)
    weights = STANDARDS["esp_2013"].in_bands(set(bands.values()))
    assert weights["85+"] == pytest.approx(0.025)
    assert fsum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second"),
    [(["00-04", "10+"], ["00-04", "05+"]), (["00-79"], ["00-79", "80+"]), (["00-10", "05+"], ["00+"]), ([], ["00+"]),
     (["old"], ["00+"])],
    ids=["gap", "no open end", "overlap", "nothing", "no band"],
)  # fmt: skip
def test_bands_that_do_not_fit_are_refused(first: list[str], second: list[str]) -> None:
    with pytest.raises(ValueError):
        common_bands(first, second)


@pytest.mark.parametrize(
    ("old", "new", "told"), [("8.86", "8.87", "checksum"), ("", "", "not listed")], ids=["changed", "unlisted"]
)
def test_a_standard_that_is_not_under_review_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    folder = tmp_path / "standards"
    shutil.copytree(schemas_root() / "standards", folder)
    if old:
        file = folder / "who_2000.csv"
        file.write_text(file.read_text().replace(old, new, 1))
    else:
        (folder / "mine.csv").write_text("age_band,weight,source\n00+,1,me\n")
    with pytest.raises(ConfigInvalid, match=told):
        load_standards(folder)
