"""Linkage is measured at three levels of noise, beside joins whose answers can be worked out by hand."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench.linkage import PEERS, join_peer, link, write_table

from radlake.linkage.records import Record, records_table
from radlake.synth.identities import NOISE, write_records

BORN = {"sound": "fang wang", "birth_date": "19491231", "sex": "F"}


def answer(file: Path, contestant: str, folder: Path) -> tuple[float, float, float]:
    """Precision, recall and linkage rate of a contestant."""
    prepared = link(file, folder) if contestant == "radlake" else join_peer(file, PEERS[contestant], folder)
    precision, recall, rate = map(float, str(prepared().look()).split(", "))
    return precision, recall, rate


def test_the_peers_find_what_is_equal_and_never_what_is_missing(tmp_path: Path) -> None:
    """Of person a 6 pairs: 1 and 2 are equal in all, 3 has no telephone, 4 another name and the number of 1."""
    told = [
        ("a", Record(1, zh="王芳", phone="13900000001", national_id="11010519491231002X", **BORN)),
        ("a", Record(2, zh="王芳", phone="13900000001", **BORN)),
        ("a", Record(3, zh="王方", **BORN)),
        ("a", Record(4, zh="汪芳", national_id="11010519491231002X", **(BORN | {"sex": None}))),
        ("b", Record(5, zh="王芳", **BORN)),
        ("c", Record(6, zh=None, sound=None)),
        ("d", Record(7, zh=None, sound=None)),
    ]
    table = records_table([record for _, record in told]).append_column("truth", pa.array([name for name, _ in told]))
    pq.write_table(table, tmp_path / "records.parquet")
    assert answer(tmp_path / "records.parquet", "all fields", tmp_path) == (1.0, round(1 / 6, 4), round(3 / 7, 4))
    # 1 to 5 come together: 10 pairs, 6 of them of person a
    assert answer(tmp_path / "records.parquet", "number or sound", tmp_path) == (0.6, 1.0, round(5 / 7, 4))


@pytest.mark.filterwarnings("ignore")  # of splink
def test_more_noise_is_found_less_by_everybody(tmp_path: Path) -> None:
    found: dict[str, list[tuple[float, float, float]]] = {}
    for level in ("low", "medium", "high"):
        file = tmp_path / f"{level}.parquet"
        assert write_table(file, level=level, n_persons=800) == pq.read_metadata(file).num_rows
        for contestant in (*PEERS, "radlake"):
            found.setdefault(contestant, []).append(answer(file, contestant, tmp_path))
    for contestant, (low, medium, high) in found.items():
        assert low[1] > medium[1] > high[1], contestant  # recall
        assert low[2] > medium[2] > high[2], contestant  # linkage rate
    assert all(found["all fields"][i][1] < found["radlake"][i][1] for i in range(3))


@pytest.mark.parametrize("level", NOISE)
def test_records_are_as_noisy_as_their_level_says(level: str) -> None:
    noise, written = NOISE[level], list(write_records(4000, noise=NOISE[level], seed=3, today=date(2026, 11, 1)))
    n_nameless = 0.01 * len(written)  # newborns and nobodies, who are at every level
    shares = {
        "other_patient_ids": noise.no_national_id,
        "patient_telephone_numbers": noise.no_phone,
        "patient_birth_date": noise.no_birth_date,
    }
    for attribute, share in shares.items():
        n_missing = sum(attribute not in one.identity for one in written)
        spread = 4 * (share * (1 - share) * len(written)) ** 0.5
        assert abs(n_missing - share * len(written)) < spread + n_nameless, attribute
