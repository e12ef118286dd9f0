"""The referee over the public test files: it objects to nothing that we write, and would see what we planted.

dciodvfy of dicom3tools finds no file made worse; the delta by file stands in the failure.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from radlake.referee import Dciodvfy, Originals, Policy, Referee
from radlake.referee.identifiers import identifiers_of
from radlake.referee.instance import Unreadable, read
from radlake.referee.search import Searcher
from support import need
from support.deid import default_profile

pytestmark = pytest.mark.corpus

# A name that stands in no element of its file, as its pinyin only; employers cut off in the middle of a word.
UNSEEN = 10


def test_the_referee_objects_to_nothing(corpus: Path, corpus_outputs: dict[Path, bytes | str]) -> None:
    written = {path: output for path, output in corpus_outputs.items() if isinstance(output, bytes)}
    originals = Originals()
    for path in written:
        originals.add(read(path.read_bytes()))
    referee = Referee(originals, policy=Policy.of_profile(default_profile()))
    for path, output in written.items():
        where = path.relative_to(corpus).as_posix()
        referee.judge_object(output, where=where, original=read(path.read_bytes()))
    report = referee.conclude()
    assert report.findings == []
    assert report.looked_at["pairs"] == len(written) >= 297
    assert report.looked_at["pixels equal"] > 200


def test_every_planted_identifier_would_be_seen(corpus: Path) -> None:
    """Of each planted identifier, told by its own file, in two encodings."""
    answers = defaultdict(list)
    for line in (corpus / "planted" / "ANSWER_KEY.jsonl").read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        answers[answer["file"]].append(answer)
    seen, unseen = 0, Counter()
    for name, planted in answers.items():
        try:
            told = identifiers_of(read((corpus / "planted" / name).read_bytes()))
        except Unreadable:
            continue
        searcher = Searcher({"study": told})
        for answer in planted:
            forms = [answer["phi"].encode(codec) for codec in ("utf-8", "gb18030")]
            if all(searcher.hits(form, vr="text", owner="study") for form in forms):
                seen += 1
            else:
                unseen[f"{name} {answer['loc']}"] += 1
    assert unseen.total() <= UNSEEN, unseen
    assert seen + unseen.total() == 623


def test_dciodvfy_finds_no_file_made_worse(corpus: Path, corpus_outputs: dict[Path, bytes | str]) -> None:
    need.program("dciodvfy", package="dicom3tools")
    validator = Dciodvfy()
    worse = {}
    for path, output in corpus_outputs.items():
        if isinstance(output, bytes) and (added := validator.worse(path.read_bytes(), output)):
            worse[path.relative_to(corpus).as_posix()] = dict(added)
    assert worse == {}
