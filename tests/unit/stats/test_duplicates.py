"""Repeats counted in one pass are those that were drawn, those of a sort, and those that are explained one by one."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radlake.cli import main
from radlake.contracts import load_table
from radlake.deidentify import KeyRing
from radlake.errors import ConfigInvalid, ContractBroken
from radlake.ingest.duplicates import why_counted
from radlake.lake import Lake, duck, parquet
from radlake.lineage.trace import trace
from radlake.resources import schemas_root
from radlake.stats.duplicates import sequence, unsorted
from radlake.stats.duplicates.codes import ground_bits
from radlake.stats.duplicates.compared import compare_repeats
from radlake.stats.duplicates.packs import load_packs, load_windows
from radlake.stats.duplicates.pairs import OUT_OF_ORDER, cells, repeats
from radlake.stats.duplicates.places import count_repeats, repeats_by_place, told_apart
from radlake.stats.duplicates.rates import count_cells, repeat_rates, repeat_windows
from radlake.stats.duplicates.recent import RecentExams, build_index
from radlake.stats.duplicates.sequence import TABLE, Observed, build_sequence
from radlake.stats.duplicates.shares import shares
from radlake.stats.duplicates.unsorted import repeats_unsorted
from radlake.synth.rows.truth import MEASURES
from radlake.synth.rows.write import Plan, write_chunk, write_province
from support.lakes import KEY, settings_of
from support.statistics import exams

PLAN = Plan(n_exams=40_000, n_hospitals=40, seed=7)
KEYS = "rule_pack, window_days, exam_month, hospital_id, modality_group"


def offsets(keys: np.ndarray) -> np.ndarray:
    return np.array(KeyRing.from_secret(KEY).offset_seconds(keys.tolist()))


@pytest.fixture(scope="module")
def province(tmp_path_factory):
    settings = settings_of(tmp_path_factory.mktemp("province"))
    lake = Lake.from_settings(settings)
    chunks = (write_chunk(lake, PLAN, chunk, date_offsets=offsets) for chunk in range(PLAN.n_chunks))
    truth = write_province(lake, PLAN, chunks=chunks)
    patch = pytest.MonkeyPatch()
    patch.setattr(sequence, "_ROWS_AT_ONCE", 10_000)  # several ranges of persons
    build_sequence(lake, date_offsets=offsets, observed=Observed(PLAN.start, PLAN.end), workers=2)
    patch.undo()
    return settings, lake, truth


def test_every_number_is_the_known_truth(province):
    _, lake, truth = province
    names = ", ".join(MEASURES)
    with duckdb.connect() as connection:
        connection.register("ours", repeat_rates(lake))
        connection.register("truth", pq.read_table(truth))
        differing = [
            connection.execute(f"SELECT {KEYS}, {names} FROM {a} EXCEPT SELECT {KEYS}, {names} FROM {b}").fetchall()
            for a, b in (("ours", "truth"), ("truth", "ours"))
        ]
        total = connection.execute("SELECT sum(n_potential_across_cities) FROM ours").fetchall()[0][0]
    assert differing == [[], []]
    assert total > 1_000


def test_repeats_by_window_and_body_part_add_up_to_the_known_truth(province):
    _, lake, truth = province
    keys = "rule_pack, window_days, modality_group"
    summed = ", ".join(f"sum({name})::BIGINT AS {name}" for name in MEASURES)
    with duckdb.connect() as connection:
        connection.register("truth", pq.read_table(truth))
        connection.register("ours", repeat_windows(lake, rates=repeat_rates(lake)))
        of_truth = f"SELECT {keys}, (exam_month // 100)::VARCHAR AS exam_year, {summed} FROM truth GROUP BY ALL"
        of_parts = (
            f"SELECT {keys}, exam_year, {summed} FROM ours"
            " WHERE 'all' NOT IN (exam_year, modality_group) AND body_part_code <> 'all' GROUP BY ALL"
        )
        totals = f"SELECT {keys}, exam_year, {', '.join(MEASURES)} FROM ours"
        totals += " WHERE 'all' NOT IN (exam_year, modality_group) AND body_part_code = 'all'"
        totals += " AND region_code = 'all' AND hospital_level = 'all'"
        expected, parts, total = (
            connection.execute(f"FROM ({sql}) ORDER BY ALL").fetchall() for sql in (of_truth, of_parts, totals)
        )
    assert parts == expected
    assert total == expected
    assert len(expected) > 100


def test_repeats_by_window_and_city_or_level_add_up_to_the_known_truth(province):
    _, lake, truth = province
    keys = "rule_pack, window_days"
    with duckdb.connect() as connection:
        connection.register("truth", pq.read_table(truth))
        connection.register("ours", repeat_windows(lake, rates=repeat_rates(lake)))
        hospitals = parquet.scan(load_table("ref.hospital"), lake.tables.files("ref.hospital"))
        for name, place in (("region_code", "left(region_code, 4) || '00'"), ("hospital_level", "hospital_level")):
            of_truth = (
                f"SELECT {keys}, {place} AS place,"
                f" {', '.join(f'sum({measure})::BIGINT' for measure in MEASURES)}"
                f" FROM truth INNER JOIN {hospitals} USING (hospital_id) GROUP BY ALL"
            )
            of_ours = (
                f"SELECT {keys}, {name}, {', '.join(MEASURES)} FROM ours"
                f" WHERE {name} <> 'all' AND exam_year = 'all' AND modality_group = 'all'"
            )
            expected, found = (
                connection.execute(f"FROM ({sql}) ORDER BY ALL").fetchall() for sql in (of_truth, of_ours)
            )
            assert found == expected
            assert len(expected) >= 50


@pytest.mark.parametrize(("by", "groups"), [("hospital_level", ("2A", "3A")), ("exam_year", ("2025", "2026"))])
def test_compared_groups_have_the_rates_of_the_table_and_wider_limits(province, by, groups):
    _, lake, _ = province
    found = compare_repeats(lake, groups, by=by, rule_pack="clinical_v1", window_days=90, modality_group="CT")
    name = "exam_month // 100" if by == "exam_year" else by
    with duckdb.connect() as connection:
        connection.register("rates", repeat_rates(lake))
        expected = connection.execute(
            f"SELECT sum(n_potential)::BIGINT, sum(n_exams)::BIGINT FROM rates WHERE rule_pack = 'clinical_v1'"
            f" AND window_days = 90 AND modality_group = 'CT' AND ({name})::VARCHAR IN {groups}"
            f" GROUP BY {name} ORDER BY {name}"
        ).fetchall()
    assert [(share.n, share.of) for share in found.shares] == expected
    assert found.difference
    first, second = (share.n / share.of for share in found.shares)
    assert found.difference.difference == pytest.approx(second - first)
    alone = sum(share.n / share.of * (1 - share.n / share.of) / share.of for share in found.shares) ** 0.5
    assert 0.99 * alone < found.difference.standard_error < 10 * alone
    assert min(found.n_hospitals) > 1
    with pytest.raises(ContractBroken, match="no exam that counts has region_code 999999"):
        compare_repeats(lake, ("320100", "999999"), by="region_code", rule_pack="clinical_v1", window_days=30)


@pytest.mark.parametrize("direction", ["back", "ahead"])
def test_the_stream_finds_what_the_sort_finds(province, direction):
    _, lake, _ = province
    found = []
    with parquet.new_connection(threads=1) as connection:
        files = parquet.scan(load_table(TABLE), lake.restricted_tables.files(TABLE))
        for is_streamed in (True, False):
            query = cells(
                files, packs=load_packs(), windows=load_windows(), direction=direction, is_streamed=is_streamed
            )
            found.append(sorted(connection.execute(f"SELECT * EXCLUDE ({OUT_OF_ORDER}) FROM ({query})").fetchall()))
            late = connection.execute(f"SELECT sum({OUT_OF_ORDER}) FROM ({query})").fetchall()
            assert late == [(0,)]
    assert len(lake.restricted_tables.files(TABLE)) > 2
    assert found[0] == found[1]


def test_counts_by_place_are_those_of_the_rates_in_months_that_lie_in_the_period(province):
    _, lake, _ = province
    with duckdb.connect() as connection:
        connection.register("rates", repeat_rates(lake))
        of_rates = connection.execute(
            "SELECT exam_month, region_code, hospital_level, modality_group, sum(n_exams), sum(n_repeats) FROM rates"
            " WHERE window_days = 30 AND rule_pack = 'lawful_v1' AND exam_month >= 202402 GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    found = [tuple(row.values()) for row in repeats_by_place(lake, window_days=30).to_pylist()]
    assert [row for row in found if row[0] >= 202402 and row[0] < 202701] == of_rates
    assert sum(row[-1] for row in of_rates) > 1_000


@pytest.mark.parametrize("window_days", [1, 45, 400])
def test_a_window_that_nobody_thought_of_is_counted_as_by_a_sort(province, window_days):
    _, lake, _ = province
    files = lake.restricted_tables.files(TABLE)
    found = count_repeats(files, window_days=window_days)
    with parquet.new_connection(threads=1) as connection:
        query = repeats(f"read_parquet({files})", window_days=window_days, is_streamed=False)
        by_sort = {cell: counts for cell, *counts in connection.execute(query).fetchall()}
    assert {cell: [rows, again, 0] for cell, (rows, again) in enumerate(zip(*found, strict=True)) if rows} == by_sort


REFERENCE = """
WITH told AS (
    SELECT exam.*, study_at - to_seconds(seconds) AS exam_at, exam_at::DATE AS day,
        count(*) OVER (PARTITION BY patient_key) <= 1000 AND is_patient_known AND body_part_code <> 'UNKNOWN' AS is_told
    FROM core.exam INNER JOIN offsets USING (patient_key) WHERE study_at IS NOT NULL
),
latest AS (
    SELECT later.hospital_id, later.exam_pseudo_id, later.patient_key, max(earlier.exam_at)::DATE AS day
    FROM told AS later
    INNER JOIN told AS earlier USING (patient_key, modality_group, body_part_code)
    WHERE later.is_told AND earlier.is_told AND earlier.exam_at < later.exam_at
        AND later.laterality_code || earlier.laterality_code NOT IN ('LR', 'RL')
    GROUP BY ALL
)
SELECT year(told.day) * 100 + month(told.day), left(region_code, 4) || '00', hospital_level, modality_group, count(*),
    count(*) FILTER (told.day - latest.day BETWEEN 1 AND 30)
FROM told
LEFT JOIN latest USING (hospital_id, exam_pseudo_id, patient_key)
INNER JOIN (SELECT hospital_id, hospital_level FROM ref.hospital) USING (hospital_id)
GROUP BY ALL ORDER BY ALL
"""


def test_pass_month_layout_and_reference_agree_row_by_row(province, tmp_path, monkeypatch):
    _, lake, _ = province
    monkeypatch.setattr(unsorted, "_ROWS_AT_ONCE", 3_000)  # many ranges of persons
    with duck.connect(lake) as connection:
        persons = connection.sql("SELECT DISTINCT patient_key FROM core.exam").fetchnumpy()["patient_key"]
        connection.register("offsets", pa.table({"patient_key": persons, "seconds": offsets(persons)}))
        by_reference = connection.execute(REFERENCE).fetchall()
    as_it_lies = repeats_unsorted(lake, date_offsets=offsets, window_days=30)
    assert [tuple(row.values()) for row in as_it_lies.to_pylist()] == by_reference
    # The same files without encounters, which the others do not know.
    codes = lake.restricted_tables.files("core.sequence_code")
    files = []
    with duckdb.connect(config={"threads": 1}) as connection:
        for number, file in enumerate(lake.restricted_tables.files(TABLE)):
            files.append(str(tmp_path / f"{number}.parquet"))
            connection.execute(f"COPY (SELECT * REPLACE (0::INTEGER AS encounter_code) FROM '{file}') TO '{files[-1]}'")
        numbers = connection.sql(f"FROM read_parquet({codes}) ORDER BY code_kind, code").to_arrow_table()
    assert told_apart(*count_repeats(files, window_days=30), codes=numbers).equals(as_it_lies)


def relation_of(file: str) -> str:
    return parquet.scan(load_table(TABLE), [file])


def test_rows_out_of_order_are_noticed_and_sorted(province, tmp_path):
    _, lake, _ = province
    file = lake.restricted_tables.files(TABLE)[0]
    shuffled = str(tmp_path / "shuffled.parquet")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{file}' ORDER BY hash(patient_key, person_day, exam_code)) TO '{shuffled}'")

    def counted(name: str) -> list[dict[str, object]]:
        found = count_cells([name], packs=load_packs(), windows=load_windows(), direction="back", workers=1)
        return sorted(found.drop_columns([OUT_OF_ORDER]).to_pylist(), key=repr)

    query = {"packs": load_packs(), "windows": load_windows(), "direction": "back"}
    with parquet.new_connection(threads=1) as connection:
        late = connection.execute(
            f"SELECT sum({OUT_OF_ORDER}) FROM ({cells(relation_of(shuffled), **query)})"
        ).fetchall()
    assert late[0][0] > 1_000
    assert counted(shuffled) == counted(file)


def test_explaining_every_exam_of_some_persons_gives_the_same_classes(province):
    settings, lake, _ = province
    with duck.connect(lake) as connection:
        asked = connection.execute(
            "SELECT exam_pseudo_id FROM core.exam SEMI JOIN (SELECT patient_key FROM core.exam GROUP BY ALL"
            " HAVING count(*) BETWEEN 5 AND 900 ORDER BY patient_key LIMIT 12) USING (patient_key)"
        ).fetchall()
        keys = [
            key
            for (key,) in connection.execute(
                "SELECT DISTINCT patient_key FROM core.exam WHERE exam_pseudo_id IN"
                f" ({', '.join(repr(exam) for (exam,) in asked)})"
            ).fetchall()
        ]
    explained: Counter[tuple[str, str]] = Counter()
    for (exam,) in asked:
        for verdict in why_counted(settings, exam).packs:
            explained[verdict.rule_pack, verdict.class_.partition(":")[0].partition("(")[0]] += 1
    names = {0: "none", 1: "same_episode", 2: "duplicative_potential"}
    counted: Counter[tuple[str, str]] = Counter()
    relation = parquet.scan(load_table(TABLE), lake.restricted_tables.files(TABLE))
    chosen = f"(FROM {relation} WHERE patient_key IN ({', '.join(map(str, keys))}))"
    query = cells(chosen, packs=load_packs(), windows=load_windows(), direction="back", is_streamed=False)
    with parquet.new_connection(threads=1) as connection:
        for pack in load_packs():
            for class_, n in connection.execute(f"SELECT class_{pack}, sum(n) FROM ({query}) GROUP BY ALL").fetchall():
                name = names.get(class_, "follow_up" if class_ < 200 else "justified")
                if name != "none" and n:
                    counted[pack, name] += int(n)
    assert sum(explained.values()) > 20
    assert explained == counted


def test_without_a_period_wrong_clocks_do_not_stretch_that_of_a_hospital(province):
    _, lake, _ = province
    build_sequence(lake, date_offsets=offsets, workers=1)
    at_30 = [row for row in shares(lake_with_rates(lake), by=None, windows=(30,)) if row.rule_pack == "lawful_v1"]
    assert len(at_30) == 1
    assert 0.92 * PLAN.n_exams < at_30[0].n_exams < PLAN.n_exams
    limits = at_30[0].repeats.limits
    assert limits is not None
    assert limits.low < at_30[0].repeats.n / at_30[0].n_exams < limits.high
    build_sequence(lake, date_offsets=offsets, observed=Observed(PLAN.start, PLAN.end), workers=1)


def lake_with_rates(lake: Lake) -> Lake:
    lake.restricted_tables.overwrite("stats.repeat_rate", repeat_rates(lake), batch_id=f"test-{date.min}")
    return lake


def test_a_ground_that_nobody_defined_stops_the_build():
    with pytest.raises(ContractBroken, match="no ground bad_mood"):
        ground_bits(["emergency", "bad_mood+oncology"])


def test_a_pack_with_faults_is_refused_with_all_of_them(tmp_path):
    folder = schemas_root() / "rules" / "duplicates"
    for file in folder.glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "lawful.yaml").read_text()
    (tmp_path / "lawful.yaml").write_text(
        text.replace("windows_version: 1", "windows_version: 9").replace("code: appraisal", "code: nothing")
    )
    with pytest.raises(ConfigInvalid, match=r"windows_version is 9[^$]*no ground nothing"):
        load_packs(tmp_path)


def test_the_commands(province, capsys, monkeypatch):
    settings, lake, _ = province

    def run(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["radlake", "--lake", settings.lake, *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    built = json.loads(run("duplicates", "build", "--start", "2024-01-01", "--end", "2026-12-31", "--json"))
    assert built["n_rows"] > 1_000
    again = json.loads(run("duplicates", "build", "--start", "2024-01-01", "--end", "2026-12-31", "--json"))
    assert again == built | {"is_new": False}
    run("duplicates", "build")
    rates = json.loads(run("duplicates", "rates", "--window", "30", "--by", "hospital_level", "--json"))
    assert {row["rule_pack"] for row in rates} == set(load_packs())
    compared = json.loads(run("duplicates", "compare", "320100", "320500", "--json"))
    assert compared["difference"]["interval"]["low"] < compared["difference"]["difference"]
    assert run("duplicates", "compare", "320100", "320500").count("320500 less 320100: ") == 1
    counted = json.loads(run("duplicates", "count", "30", "--by", "hospital_level", "--json"))
    assert {row["group"] for row in counted} == {row["group"] for row in rates}
    assert sum(row["n_repeats"] for row in counted) > sum(row["repeats"]["n"] for row in rates) / 2 > 500
    assert run("duplicates", "count", "45").startswith("all")
    windows = json.loads(run("duplicates", "windows", "--json"))
    of_all = [row for row in windows if row["modality_group"] == "all"]
    assert [row["window_days"] for row in of_all] == list(load_windows().days)
    assert of_all[0]["repeat_share"] < of_all[2]["repeat_share"] < of_all[4]["repeat_share"]
    assert all(row["n_repeats"] % 10 == row["n_potential"] % 10 == 0 for row in windows)
    by_city = json.loads(run("duplicates", "windows", "--by", "region_code", "--json"))
    of_cities = [row for row in by_city if row["modality_group"] == "all" and row["window_days"] == 30]
    assert {"all", "320100"} < {row["region_code"] for row in of_cities}
    assert any(0 < (row["indexed_share"] or 0) < 0.5 for row in of_cities)
    assert "CHEST" in run("duplicates", "windows", "--year", "2025", "--pack", "lawful_v1")
    again = trace(settings, "stats.repeat_window/rule_pack=clinical_v1/window_days=30/n_repeats", limit=0)
    assert again.value == next(row["n_repeats"] for row in of_all if row["window_days"] == 30)
    assert [(step.build.table.view_name, step.rerun and step.rerun.is_equal) for step in again.steps[:1]] == [
        ("stats.repeat_window", True)
    ]
    assert again.problems == ()
    with duck.connect(lake) as connection:
        exam = connection.execute("SELECT exam_pseudo_id FROM core.exam LIMIT 1").fetchall()[0][0]
    assert "20" + "24-" not in run("why", exam, "--json")
    assert json.loads(run("why", exam, "--json"))["exam"]["exam_pseudo_id"] == exam
    assert run("why", exam).startswith(f"exam {exam} of ")


def test_the_index_answers_what_the_lake_answers_and_is_not_asked_when_it_is_old(province):
    _, lake, _ = province
    now = datetime(2026, 12, 31, 18)
    n_rows = build_index(lake, date_offsets=offsets, now=now)
    with duck.connect(lake) as connection:
        asked = connection.execute(
            "SELECT patient_key, modality_group, body_part_code FROM core.exam WHERE study_month > 202511"
            " ORDER BY hash(exam_pseudo_id) LIMIT 300"
        ).fetchall()
    recent = RecentExams(lake)
    assert recent.has_index
    found = 0
    for key, modality, part in [*asked, (5, "CT", "CHEST")]:
        moved = timedelta(seconds=int(offsets(np.array([key]))[0]))
        limits = {"since": now - timedelta(days=90) + moved, "until": now + moved}
        by_index = recent.from_index(key, modality, part, **limits)
        assert by_index == recent.from_lake(key, modality, part, **limits)
        chosen = {"modality_group": modality, "body_part_code": part, "now": now, "moved": moved}
        assert recent.find(key, days=90, **chosen) == by_index
        longer = recent.find(key, days=400, **chosen)  # more than the index holds
        assert set(by_index) <= set(longer)
        found += len(by_index)
    recent.close()
    assert found > 50
    assert n_rows > 2_000
    one = exams("patient | date\np1 | 2026-01-02")
    lake.tables.commit_batch("core.exam", one, batch_id="one-more")
    newer = RecentExams(lake)
    assert not newer.has_index
    newer.close()
