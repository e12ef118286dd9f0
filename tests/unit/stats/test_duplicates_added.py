"""What exams add that came later is what laying out everything anew gives, in whatever order they come."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from radlake.cli import main
from radlake.contracts import load_table
from radlake.deidentify import KeyRing
from radlake.ingest.duplicates import SequenceOld, build_repeats, count_repeats_now
from radlake.lake import Lake, duck
from radlake.machine import utc_now
from radlake.stats.duplicates import added as module
from radlake.stats.duplicates import sequence
from radlake.stats.duplicates.added import added_repeats, summed
from radlake.stats.duplicates.packs import load_windows
from radlake.stats.duplicates.places import repeats_by_place
from radlake.stats.duplicates.sequence import TABLE, build_sequence
from radlake.synth.rows.write import Plan, write_chunk, write_province
from support.lakes import KEY, settings_of

PLAN = Plan(n_exams=8_000, n_hospitals=10, seed=11)
EXAM_KEY = ["hospital_id", "exam_pseudo_id", "patient_key"]


def offsets(keys: np.ndarray) -> np.ndarray:
    return np.array(KeyRing.from_secret(KEY).offset_seconds(keys.tolist()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All rows of a province by table, and the true month of each exam."""
    lake = Lake.from_settings(settings_of(tmp_path_factory.mktemp("whole")))
    write_province(lake, PLAN, chunks=[write_chunk(lake, PLAN, 0, date_offsets=offsets)])
    with duck.connect(lake) as connection:
        found = {
            name: connection.sql(f"FROM {name} ORDER BY ALL").to_arrow_table()
            for name in ("core.exam", "ref.exam_order", "ref.hospital", "ref.region")
        }
    exams = found["core.exam"]
    moved = exams["study_at"].to_numpy().astype("datetime64[s]")
    at = moved - offsets(exams["patient_key"].to_numpy()).astype("timedelta64[s]")
    return found, at.astype("datetime64[M]")


def newest_month(rng, months):
    return months == np.datetime64("2026-12")


def a_month_in_the_middle(rng, months):
    return months == np.datetime64("2025-05")


def any_three_months_and_late_exams(rng, months):
    chosen = rng.choice(np.unique(months[~np.isnat(months)]), 3, replace=False)
    return np.isin(months, chosen) | (rng.random(len(months)) < 0.05)


def nearly_all(rng, months):
    return rng.random(len(months)) < 0.9


def add(lake, name, rows, *, batch):
    table = load_table(name)
    lake.tables.commit_batch(table, rows.select(table.column_names).cast(table.arrow_schema()), batch_id=batch)


def part_of(whole, is_in):
    """Exams of the mask, and what is on record of them."""
    exams = whole["core.exam"].filter(pa.array(is_in))
    return {
        "core.exam": exams,
        "ref.exam_order": whole["ref.exam_order"].join(exams.select(EXAM_KEY), keys=EXAM_KEY, join_type="inner"),
    }


def lake_without(folder, whole, is_late, *, links=None):
    settings = settings_of(folder)
    lake = Lake.from_settings(settings)
    for name in ("ref.hospital", "ref.region"):
        add(lake, name, whole[name], batch="first")
    for name, rows in part_of(whole, ~is_late).items():
        add(lake, name, rows, batch="first")
    if links is not None:
        add(lake, "core.person_link", links, batch="links")
    return settings, lake


def add_late(lake, whole, is_late, *, batches=3):
    part = np.arange(len(is_late)) % batches
    for number in range(batches):
        for name, rows in part_of(whole, is_late & (part == number)).items():
            add(lake, name, rows, batch=f"late-{number}")


def linked(whole):
    """Every seventh person is the one before."""
    persons = np.unique(whole["core.exam"]["patient_key"].to_numpy())
    return pa.table({"patient_key": persons[1::7], "person_key": persons[0::7][: len(persons[1::7])]})


@pytest.mark.parametrize(
    ("choose", "window_days", "has_links"),
    [
        pytest.param(newest_month, 30, False, id="the newest month"),
        pytest.param(newest_month, 1, True, id="the newest month, of linked persons"),
        pytest.param(a_month_in_the_middle, 90, False, id="a month in the middle"),
        pytest.param(any_three_months_and_late_exams, 30, False, id="months and late exams"),
        pytest.param(any_three_months_and_late_exams, 400, True, id="months and late exams, of linked persons"),
        pytest.param(nearly_all, 180, False, id="nearly all"),
    ],
)
def test_added_exams_make_the_count_that_a_new_layout_makes(tmp_path, whole, choose, window_days, has_links):
    rows, months = whole
    is_late = choose(np.random.default_rng(window_days), months)
    _, lake = lake_without(tmp_path, rows, is_late, links=linked(rows) if has_links else None)
    built = build_sequence(lake, date_offsets=offsets, workers=1)
    before = repeats_by_place(lake, window_days=window_days)
    add_late(lake, rows, is_late)
    added = added_repeats(
        lake, inputs=built.inputs, version=built.version, window_days=window_days, date_offsets=offsets
    )
    assert added.rows is not None
    assert added.n_exams == np.sum(is_late & ~np.isnat(months)) > 100
    found = summed(before, added.rows)
    assert build_sequence(lake, date_offsets=offsets, workers=1).is_new
    anew = repeats_by_place(lake, window_days=window_days)
    assert not anew.equals(before)
    assert found.equals(anew)


def test_what_else_changed_needs_a_new_layout(tmp_path, whole, monkeypatch):
    rows, months = whole
    is_late = newest_month(None, months)
    settings, lake = lake_without(tmp_path, rows, is_late)
    build_repeats(settings, now=utc_now())
    assert count_repeats_now(settings, window_days=30).n_added == 0
    add_late(lake, rows, is_late, batches=1)
    assert count_repeats_now(settings, window_days=30).n_added == np.sum(is_late)

    persons = rows["core.exam"]["patient_key"].to_numpy()
    n_then = int(np.sum(persons[~is_late] == persons[is_late][0]))
    few = replace(load_windows(), max_person_exams=n_then)
    monkeypatch.setattr(module, "load_windows", lambda: few)
    with pytest.raises(SequenceOld, match=f"a number has more than {n_then} exams now"):
        count_repeats_now(settings, window_days=30)
    monkeypatch.undo()

    old = rows["ref.exam_order"].slice(0, 1)
    assert not set(old["exam_pseudo_id"].to_pylist()) & set(
        rows["core.exam"].filter(pa.array(is_late))["exam_pseudo_id"].to_pylist()
    )
    add(lake, "ref.exam_order", old, batch="again")
    with pytest.raises(SequenceOld, match=r"ref\.exam_order tells something new .* run `radlake duplicates build`"):
        count_repeats_now(settings, window_days=30)
    build_repeats(settings, now=utc_now())

    one = rows["core.exam"].slice(0, 1)
    table = load_table("core.exam")
    lake.tables.commit_batch(table, one, batch_id="corrected", replace=one.select(EXAM_KEY))
    with pytest.raises(SequenceOld, match=r"core\.exam changed, and not only by added exams"):
        count_repeats_now(settings, window_days=30)
    build_repeats(settings, now=utc_now())

    add(lake, "core.person_link", linked(rows), batch="links")
    with pytest.raises(SequenceOld, match=r"core\.person_link changed"):
        count_repeats_now(settings, window_days=30)


def test_a_number_that_many_share_stays_one_that_matches_nothing(tmp_path, whole, monkeypatch):
    rows, months = whole
    is_late = newest_month(None, months)
    persons = rows["core.exam"]["patient_key"].to_numpy()
    keys, n = np.unique(persons, return_counts=True)
    few = replace(load_windows(), max_person_exams=int(n.max()) // 2)
    for where in (module, sequence):
        monkeypatch.setattr(where, "load_windows", lambda: few)
    is_late &= ~np.isin(persons, keys[n > few.max_person_exams])
    is_late[np.flatnonzero(persons == keys[n.argmax()])[:5]] = True
    _, lake = lake_without(tmp_path, rows, is_late)
    built = build_sequence(lake, date_offsets=offsets, workers=1)
    before = repeats_by_place(lake, window_days=90)
    add_late(lake, rows, is_late, batches=1)
    added = added_repeats(lake, inputs=built.inputs, version=built.version, window_days=90, date_offsets=offsets)
    assert added.rows is not None, added.reason
    build_sequence(lake, date_offsets=offsets, workers=1)
    assert summed(before, added.rows).equals(repeats_by_place(lake, window_days=90))
    assert lake.restricted_tables.files(TABLE)


def test_the_command_tells_how_many_came_since(tmp_path, whole, capsys, monkeypatch):
    rows, months = whole
    is_late = newest_month(None, months)
    settings, lake = lake_without(tmp_path, rows, is_late)
    build_repeats(settings, now=utc_now())
    add_late(lake, rows, is_late)

    def run(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["radlake", "--lake", settings.lake, "duplicates", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    assert f"{np.sum(is_late):,} of the exams came since" in run("count", "30")
    told = json.loads(run("count", "30", "--by", "exam_month", "--json"))
    run("build")
    assert json.loads(run("count", "30", "--by", "exam_month", "--json")) == told
    assert "came since" not in run("count", "30")
