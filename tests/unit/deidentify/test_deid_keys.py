"""Keys: the same everywhere, told to nobody."""

from __future__ import annotations

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

SECRET = "0f" * 32
KEYS = KeyRing.from_secret(SECRET)


def test_pseudonyms_are_pinned() -> None:
    # A change of these values breaks every lake: the same person would get a second pseudonym.
    assert KEYS.patient_key("hospital|1") == 8722450951819186428
    assert KEYS.uid("1.2.3") == "2.25.33825366213276832781605459820843516559"
    assert KEYS.pseudo_id("exam", "A1") == "c410397ab0568293"
    assert (KEYS.date_offset_days(42), KEYS.clock_offset_seconds(42)) == (-159, 32)


def test_another_process_makes_the_same_pseudonyms() -> None:
    program = (
        "from radlake.deidentify import KeyRing; k = KeyRing.from_secret('" + SECRET + "');"
        "print(k.patient_key('x'), k.uid('1.2.3'), k.date_offset_days(7), k.pseudo_id('a', 'b'))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    expected = [KEYS.patient_key("x"), KEYS.uid("1.2.3"), KEYS.date_offset_days(7), KEYS.pseudo_id("a", "b")]
    assert told == list(map(str, expected))


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
