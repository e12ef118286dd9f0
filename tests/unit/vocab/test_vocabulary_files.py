"""The files under schemas/vocab/ agree with each other and with the standard's codes that pydicom ships."""

from __future__ import annotations

from collections import Counter

import yaml
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from radlake.resources import schemas_root
from radlake.vocab.load import UNKNOWN, csv_rows, vocabulary
from radlake.vocab.rules import rules, rules_digest


def yaml_of(name: str):
    return yaml.safe_load((schemas_root() / "vocab" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_every_snomed_code_exists() -> None:
    shipped = {code for codes in concepts["SCT"].values() for code in codes} | set(mapping["SCT"])
    known = vocabulary()
    ours = set(known.part_of_code) | set(known.side_of_code)
    assert ours - shipped == set()


def test_every_term_and_word_leads_to_a_part_that_exists() -> None:
    known = vocabulary()
    codes = {part["code"] for part in yaml_of("body_parts") if "+" not in part["code"]}
    assert UNKNOWN not in codes
    found = [*known.part_of_term.values(), *known.part_of_code.values()]
    found += [word.parts for word in (*known.zh.values(), *known.en.values())]
    assert {code for parts in found for code in parts} <= codes
    assert all(known.part_of_term[code] == {code} for code in codes)


def test_no_word_is_given_to_two_parts() -> None:
    for language in ("zh", "en"):
        words = Counter(word for part in yaml_of("body_parts") for word in part.get(language, []))
        assert [word for word, n in words.items() if n > 1] == []


def test_no_code_is_given_to_two_parts() -> None:
    codes = Counter(code for part in yaml_of("body_parts") for code in part.get("sct", []))
    assert [code for code, n in codes.items() if n > 1] == []


def test_a_code_means_the_same_in_both_files() -> None:
    known = vocabulary()
    lines = (schemas_root() / "vocab" / "body_part_terms.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines if not line.startswith(("#", "term"))]
    differing = [row for row in rows if row[1] and known.part_of_code[row[1]] != set(row[2].split("+")) - {UNKNOWN}]
    assert differing == []


def test_every_modality_is_listed_once() -> None:
    data = yaml_of("modalities")
    terms = [term for group in data["groups"].values() for term in group] + data["other"] + data["derived"]
    assert [term for term, n in Counter(terms).items() if n > 1] == []


def test_a_change_of_the_rules_raises_their_version() -> None:
    """Results carry the version. When this fails: raise `version` in rules.yaml, and enter the new digest there."""
    assert yaml_of("rules")["digest"] == rules_digest()


def test_what_is_read_leads_to_parts_that_exist() -> None:
    known = rules()
    aside = {part for part, _, _ in known.absorbed}
    named = {part for word in (*known.zh.values(), *known.en.values()) for part in word.parts}
    assert named <= set(vocabulary().region_of) | aside
    assert {otherwise for _, _, otherwise in known.absorbed} <= set(vocabulary().region_of)


def test_chinese_words_are_chinese_and_no_spelling_is_given_twice() -> None:
    assert [word for word in rules().zh if min(word) < "\u3400"] == []
    written = Counter((row["kind"], row["written"], row["modality"]) for row in csv_rows("spellings"))
    assert [key for key, n in written.items() if n > 1] == []


def test_loinc_codes_have_their_check_digit() -> None:
    """Luhn, as LOINC defines it (LOINC Users' Guide, appendix C)."""
    for row in csv_rows("loinc"):
        digits, check = row["loinc_code"].split("-")
        doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
        assert (10 - sum(sum(map(int, str(value))) for value in doubled) % 10) % 10 == int(check), row
