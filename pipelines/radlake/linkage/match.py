"""Find pairs of records that may be of one person: by rule where a number proves it, else by a trained model.

The model is Fellegi and Sunter's (JASA 1969;64:1183) as Splink 4 has it: how often name, date of birth, sex and
telephone agree by chance is drawn from the records, how often they agree within a person is learnt by expectation
maximisation, and a rare name weighs more than a common one. Names that differ in characters and sound are never
compared: twins agree in everything else.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from radlake.errors import PermanentError
from radlake.lake import parquet
from radlake.linkage.clusters import Pair
from radlake.linkage.policy import Policy

if TYPE_CHECKING:
    from splink import Linker  # pyright: ignore[reportMissingImports]
    from splink.internals.blocking_rule_creator import BlockingRuleCreator  # pyright: ignore[reportMissingImports]

__all__ = ["LinkageFailed", "Matches", "find_pairs"]


class LinkageFailed(PermanentError):
    sentence = "The linkage stopped at {step} ({kind}). Nothing was changed; what the records say is never told here."


class SplinkMissing(PermanentError):
    sentence = (
        "Splink is not installed here. `make install` installs it; elsewhere pip install --no-deps 'splink>=4.0.17,<5' "
        "and pip install altair sqlglot. Without --no-deps pip brings igraph too, which has the GPL and is not needed."
    )


@dataclass(frozen=True)
class Matches:
    """Pairs, and whether the model was trained on the records that it compared."""

    pairs: list[Pair]
    n_comparable: int
    is_trained: bool


# Two records of one number. A record that contradicts itself has no number. The card's issuer may give one number to a
# family: the date of birth must agree too.
_RULES = {
    "same_national_id": "one.national_id = other.national_id",
    "same_health_card": "one.health_card = other.health_card AND one.birth_date = other.birth_date"
    " AND one.sex IS NOT DISTINCT FROM other.sex AND one.sound IS NOT DISTINCT FROM other.sound",
}
_MISTYPED = (
    "(damerau_levenshtein(birth_date_l, birth_date_r) <= 1"
    " OR (substr(birth_date_l, 1, 4) = substr(birth_date_r, 1, 4) AND ("
    " (substr(birth_date_l, 5, 2) = substr(birth_date_r, 7, 2) AND"
    "  substr(birth_date_l, 7, 2) = substr(birth_date_r, 5, 2))"
    " OR substr(birth_date_l, 5) = '0101' OR substr(birth_date_r, 5) = '0101')))"
)
_LEVELS = {
    "name": (
        "sound_l IS NULL OR sound_r IS NULL",
        {"same_characters": "zh_l = zh_r", "same_sound": "sound_l = sound_r"},
    ),
    "birth_date": (
        "birth_date_l IS NULL OR birth_date_r IS NULL",
        {"same": "birth_date_l = birth_date_r", "mistyped": _MISTYPED},
    ),
    "sex": ("sex_l IS NULL OR sex_r IS NULL", {"same": "sex_l = sex_r"}),
    "phone": (
        "phone_l IS NULL OR phone_r IS NULL",
        {"same": "phone_l = phone_r", "mistyped": "damerau_levenshtein(phone_l, phone_r) <= 1"},
    ),
}

_RARE = {"same_characters": "zh", "same_sound": "sound"}  # levels in which a rare value weighs more


def find_pairs(records: pa.Table, *, policy: Policy, scratch: Path | None = None, threads: int = 2) -> Matches:
    """Every pair that a rule proves or the model holds for likely enough.

    Parameters
    ----------
    records : pa.Table
        From `records_table`; one row per pseudonym.
    scratch : Path, optional
        Folder of the restricted zone for what does not fit into memory; without it everything must.

    Raises
    ------
    SplinkMissing
    LinkageFailed
        Without a word of what the records say.
    """
    if find_spec("splink") is None:
        raise SplinkMissing
    connection = parquet.new_connection(threads=threads)
    connection.execute("SET temp_directory = ?", [str(scratch) if scratch else ""])
    connection.register("given", records)
    step = "records"
    try:
        connection.execute(_COMPARABLE)
        [(n_comparable,)] = connection.execute("SELECT count(*) FROM comparable").fetchall()
        step = "rules"
        pairs = [pair for reason, clause in _RULES.items() for pair in _by_rule(connection, reason, clause)]
        step = "model"
        is_trained = n_comparable >= policy.least_records
        if n_comparable > 1:
            pairs += _by_model(connection, policy=policy, is_trained=is_trained)
        return Matches(pairs, n_comparable, is_trained)
    except Exception as exc:
        raise LinkageFailed(step=step, kind=type(exc).__name__) from None  # its text may show what a record says
    finally:
        connection.close()


_COMPARABLE = """
CREATE TABLE comparable AS
SELECT patient_key, national_id, zh, sound, birth_date, sex, phone,
    substr(birth_date, 1, 4) AS birth_year, substr(birth_date, 5) AS birth_day
FROM given
WHERE sound IS NOT NULL AND (birth_date IS NOT NULL OR phone IS NOT NULL) AND NOT is_newborn AND NOT is_contradictory
"""


def _by_rule(connection: duckdb.DuckDBPyConnection, reason: str, clause: str) -> list[Pair]:
    """A chain through the records of one number, instead of all pairs of them."""
    sql = f"""
        SELECT one.patient_key, min(other.patient_key) FROM given AS one INNER JOIN given AS other
            ON {clause} AND one.patient_key < other.patient_key
        WHERE NOT one.is_contradictory AND NOT other.is_contradictory
        GROUP BY one.patient_key
    """
    return [Pair.of(one, other, decided_by="rule", reason=reason) for one, other in connection.execute(sql).fetchall()]


def _by_model(connection: duckdb.DuckDBPyConnection, *, policy: Policy, is_trained: bool) -> list[Pair]:
    from splink import DuckDBAPI, Linker  # pyright: ignore[reportMissingImports]

    logging.getLogger("splink").setLevel(logging.CRITICAL)
    linker = Linker("comparable", _settings(policy), DuckDBAPI(connection), set_up_basic_logging=False)
    if is_trained:
        _train(linker, policy=policy)
    found = linker.inference.predict(threshold_match_probability=policy.threshold)
    rows = connection.execute(_UNAMBIGUOUS.format(found=found.physical_name)).fetchall()
    reason = f"model {policy.name}"
    return [Pair.of(one, other, decided_by="model", reason=reason, probability=sure) for one, other, sure in rows]


# A record without a national number that is as likely one person's as another's, who are told apart by theirs, is
# linked with neither: namesakes born on one day.
_UNAMBIGUOUS = """
WITH sides AS (
    SELECT patient_key_l AS patient_key, patient_key_r AS other_key FROM {found}
    UNION ALL
    SELECT patient_key_r, patient_key_l FROM {found}
),
ambiguous AS (
    SELECT sides.patient_key
    FROM sides INNER JOIN comparable AS other ON sides.other_key = other.patient_key
    GROUP BY sides.patient_key
    HAVING count(DISTINCT other.national_id) > 1
)
SELECT patient_key_l, patient_key_r, match_probability
FROM {found}
WHERE patient_key_l NOT IN (FROM ambiguous) AND patient_key_r NOT IN (FROM ambiguous)
ORDER BY ALL
"""


def _train(linker: Linker, *, policy: Policy) -> None:
    """Learn the weights; what the records cannot teach (nobody has a telephone) keeps its starting value."""
    from splink import block_on  # pyright: ignore[reportMissingImports]
    from splink.internals.exceptions import EMTrainingException  # pyright: ignore[reportMissingImports]

    training = linker.training
    certain: list[str | BlockingRuleCreator] = [block_on("national_id"), block_on("sound", "birth_date", "phone")]
    training.estimate_probability_two_random_records_match(certain, recall=policy.rule_recall)
    training.estimate_u_using_random_sampling(max_pairs=policy.training_pairs, seed=policy.seed)
    for rule in (block_on("birth_date", "sex"), block_on("phone")):
        with suppress(EMTrainingException):
            training.estimate_parameters_using_expectation_maximisation(rule)


def _settings(policy: Policy) -> dict[str, Any]:
    """Only names that look or sound the same are compared: with them a year or a day of birth, or a telephone."""
    from splink import block_on  # pyright: ignore[reportMissingImports]

    together = [
        block_on("sound", "birth_date"),
        block_on("sound", "phone"),
        block_on("sound", "birth_year", "sex"),
        block_on("sound", "birth_day", "sex"),
    ]
    return {
        "link_type": "dedupe_only",
        "unique_id_column_name": "patient_key",
        "probability_two_random_records_match": policy.prior,
        "blocking_rules_to_generate_predictions": [rule.create_blocking_rule_dict("duckdb") for rule in together],
        "comparisons": [_comparison(name, policy=policy) for name in _LEVELS],
        "retain_matching_columns": False,
        "retain_intermediate_calculation_columns": False,
    }


def _comparison(name: str, *, policy: Policy) -> dict[str, Any]:
    missing, told = _LEVELS[name]
    conditions = {**told, "other": "ELSE"}
    levels: list[dict[str, Any]] = [{"sql_condition": missing, "is_null_level": True}]
    for level, (m, u) in policy.weights[name].items():
        weighed = {"sql_condition": conditions[level], "m_probability": m, "u_probability": u}
        common = {"tf_adjustment_column": _RARE[level]} if level in _RARE else {}
        levels.append(weighed | common)
    return {"output_column_name": name, "comparison_levels": levels}
