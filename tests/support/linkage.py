"""Vaults with records of known persons, without a harvest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from radlake.config import Settings

__all__ = ["NOW", "identity", "keep_no_score", "seal_identities"]

NOW = datetime(2026, 11, 1, 8, 0, 0)


def identity(name: str, *, born: str = "19491231", sex: str = "F", phone: str = "", number: str = "") -> dict[str, list[str]]:  # fmt: skip  # noqa: E501
    """What a study said of its patient, as `radlake.vault.record.identity_of` tells it."""
    told = {"patient_name": name, "patient_birth_date": born, "patient_sex": sex, "patient_telephone_numbers": phone}
    return {key: [value] for key, value in (told | {"patient_id": number}).items() if value}


def seal_identities(settings: Settings, identities: Sequence[Mapping[str, list[str]]]) -> list[int]:
    """A vault with one study of each identity; the pseudonyms, in the same order."""
    from radlake.lake.evidence import Settlement
    from radlake.lake.ledger import Ledger
    from radlake.lake.vault import enter_sealed
    from radlake.vault.lake_key import lake_keys
    from radlake.vault.record import seal

    keys, made = lake_keys(settings), []
    with closing(Ledger(settings.ledger)) as ledger, ledger.writing() as connection:
        for number, told in enumerate(identities):
            key, original = keys.patient_key(f"person {number}"), f"1.2.156.{number + 1}"
            uids: dict[str, Any] = {"study": (original, keys.uid(original)), "series": [], "instances": []}
            where: dict[str, Any] = {"hospital_id": "h1", "patient_key": key, "exam_pseudo_id": f"{number:016x}"}
            sealed = seal(keys, version=1, identity=told, **where, **uids)
            settlement = Settlement("h1", original, {}, lake_study_uid=keys.uid(original), sealed=sealed)
            enter_sealed(connection, settlement, now=NOW)
            made.append(key)
    return made


def keep_no_score(settings: Settings) -> None:
    """Take the policy for measured: synthetic records take a minute."""
    from radlake.lake.ledger import Ledger
    from radlake.lake.person_links import PersonLinks
    from radlake.linkage.policy import load_policy

    counts = dict.fromkeys(("n_keys", "n_national_keys", "n_compared_keys", "n_contradictory_keys", "n_linked_keys", "n_persons"), 1)  # fmt: skip  # noqa: E501
    score = {"synthetic_low": counts | {"linkage_share": 1.0, "precision_share": 0.99, "recall_share": 0.9}}
    with closing(Ledger(settings.ledger)) as ledger:
        PersonLinks(ledger).keep_score(load_policy().name, score)
