"""Keys: the same everywhere, told to nobody."""

from __future__ import annotations

import hmac
import os
import pickle
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.deidentify import KeyRing
from radlake.dicom.uids import has_leading_zero, is_uid
from radlake.errors import ConfigInvalid
from radlake.resources import data_root
from radlake.vault.record import patient_alias

SECRET = "0f" * 32
KEYS = KeyRing.from_secret(SECRET)


def test_pseudonyms_are_pinned() -> None:
    # A change of these values breaks every lake: the same person would get a second pseudonym.
    assert KEYS.patient_key("hospital|1") == 8722450951819186428
    assert KEYS.uid("1.2.3") == "2.25.33825366213276832781605459820843516559"
    assert KEYS.pseudo_id("exam", "A1") == "c410397ab0568293"
    assert (KEYS.date_offset_days(42), KEYS.clock_offset_seconds(42)) == (-159, 32)


def test_keys_of_projects_and_checks_are_pinned() -> None:
    # docs/reference/keys.md has these values for those who write the derivation again.
    project = KEYS.for_project("stroke-2026")
    assert KEYS.check_value() == "5ac7350fa542994ad196d2094abc9271"
    assert project.patient_key("8722450951819186428") == 8006710439811735769
    assert project.uid("2.25.33825366213276832781605459820843516559") == "2.25.203601494654147559153039282048393994677"
    assert (project.date_offset_days(42), project.clock_offset_seconds(42)) == (-296, 2)


def test_the_document_has_these_values() -> None:
    document = (data_root() / "docs" / "reference" / "keys.md").read_text(encoding="utf-8")
    project = KEYS.for_project("stroke-2026")
    values = [
        _key("patient").hex(),
        KEYS.patient_key("hospital|1"),
        KEYS.uid("1.2.3"),
        KEYS.check_value(),
        patient_alias(KEYS, hospital_id="h1", patient_id="p0001 "),
        _key("project/stroke-2026").hex(),
        project.patient_key(str(KEYS.patient_key("hospital|1"))),
        project.uid(KEYS.uid("1.2.3")),
    ]
    assert not [value for value in values if f"`{value}`" not in document]


def _key(purpose: str) -> bytes:
    """The derivation in the words of the document, with nothing of the code under test (RFC 5869, RFC 2104)."""
    extracted = hmac.digest(bytes(32), bytes.fromhex(SECRET), "sha256")
    return hmac.digest(extracted, b"radlake/v1/" + purpose.encode() + b"\x01", "sha256")


def _derived(purpose: str, text: str) -> bytes:
    return hmac.digest(_key(purpose), text.encode(), "sha256")


def test_the_documented_derivation_gives_the_same_values() -> None:
    assert KEYS.patient_key("hospital|1") == int.from_bytes(_derived("patient", "hospital|1")[:8], "big") >> 1
    assert KEYS.uid("1.2.3") == f"2.25.{int.from_bytes(_derived('uid', '1.2.3')[:16], 'big')}"
    assert KEYS.pseudo_id("exam", "A1") == _derived("id/exam", "A1")[:8].hex()
    assert KEYS.date_offset_days(42) == -1 - int.from_bytes(_derived("offset/days", "42")[:8], "big") % 365
    assert KEYS.clock_offset_seconds(42) == 1 + int.from_bytes(_derived("offset/seconds", "42")[:8], "big") % 59
    assert KEYS.check_value() == _derived("check", "").hex()[:32]


def test_a_project_joins_with_nobody() -> None:
    rings = [KEYS, KEYS.for_project("a"), KEYS.for_project("b"), KEYS.for_project("a").for_project("b")]
    for made in (lambda k: k.uid("1.2.3"), lambda k: k.patient_key("x"), lambda k: k.pseudo_id("exam", "1")):
        assert len({made(ring) for ring in rings}) == len(rings)
    assert len({ring.check_value() for ring in rings}) == len(rings)
    assert len({tuple(ring.date_offset_days(n) for n in range(20)) for ring in rings}) == len(rings)
    assert KEYS.for_project("a").uid("1.2.3") == KEYS.for_project("a").uid("1.2.3")


@pytest.mark.parametrize("name", ["", "A", "a/b", "../a", "项目", "a" * 65, "a "])
def test_a_project_name_has_one_spelling(name: str) -> None:
    with pytest.raises(ConfigInvalid, match="name of the project"):
        KEYS.for_project(name)


@pytest.mark.parametrize(("seed", "zone"), [("0", "UTC"), ("4711", "Asia/Shanghai"), ("1", "America/St_Johns")])
def test_another_process_makes_the_same_pseudonyms(seed: str, zone: str) -> None:
    program = (
        "from radlake.deidentify import KeyRing; k = KeyRing.from_secret('" + SECRET + "');"
        "print(k.patient_key('x'), k.uid('1.2.3'), k.date_offset_days(7), k.pseudo_id('a', 'b'), k.check_value())"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    expected = [KEYS.patient_key("x"), KEYS.uid("1.2.3"), KEYS.date_offset_days(7), KEYS.pseudo_id("a", "b")]
    assert told == [*map(str, expected), KEYS.check_value()]


def test_another_secret_makes_other_pseudonyms() -> None:
    other = KeyRing.from_secret("0e" * 32)
    assert other.uid("1.2.3") != KEYS.uid("1.2.3")
    assert other.patient_key("x") != KEYS.patient_key("x")


def test_purposes_do_not_share_pseudonyms() -> None:
    assert KEYS.pseudo_id("exam", "1") != KEYS.pseudo_id("device", "1")
    assert KEYS.uid("1") != f"2.25.{KEYS.patient_key('1')}"


@given(st.text(max_size=80))
def test_patient_key_is_a_positive_bigint(text: str) -> None:
    assert 0 <= KEYS.patient_key(text) < 2**63


@given(st.from_regex(r"[0-9]{1,8}(\.[0-9]{1,8}){1,6}", fullmatch=True))
def test_replaced_uid_is_valid(uid: str) -> None:
    replaced = KEYS.uid(uid)
    assert is_uid(replaced)
    assert not has_leading_zero(replaced)
    assert len(replaced) <= 64
    assert len(uid) < 12 or uid not in replaced


def test_uid_mapping_is_injective() -> None:
    uids = [f"1.2.156.112605.{study}.{series}" for study in range(200) for series in range(50)]
    assert len(set(map(KEYS.uid, uids))) == len(uids)


def test_padding_is_no_part_of_a_uid() -> None:
    assert KEYS.uid("1.2.3\0") == KEYS.uid("1.2.3 ") == KEYS.uid("1.2.3")


def test_offsets_are_in_the_past_and_spread() -> None:
    days = Counter(KEYS.date_offset_days(KEYS.patient_key(str(n))) for n in range(20_000))
    assert min(days) == -365
    assert max(days) == -1
    assert len(days) == 365
    assert max(days.values()) < 110  # 55 expected
    seconds = {KEYS.clock_offset_seconds(KEYS.patient_key(str(n))) for n in range(2_000)}
    assert seconds == set(range(1, 60))


def test_secret_cannot_be_printed_or_pickled() -> None:
    assert SECRET not in repr(KEYS)
    assert str(KEYS) == "KeyRing(...)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEYS)
    assert not hasattr(KEYS, "__dict__")


@pytest.mark.parametrize("secret", ["", "abc", "zz" * 32, "ab" * 31], ids=["empty", "odd", "not hex", "short"])
def test_bad_secret_is_refused_without_quoting_it(secret: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        KeyRing.from_secret(secret)
    assert caught.value.__cause__ is None
    assert len(secret) < 3 or secret not in str(caught.value)
