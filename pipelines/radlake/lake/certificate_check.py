"""Check: history whole, rows as their last event left them, states as they must be, certificates as issued."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import sqlalchemy as sa

from radlake.lake.certificate import Certificate, merkle_root
from radlake.lake.certificate_store import documents, file_names
from radlake.lake.chain import HeadFile, Link, broken_links
from radlake.lake.events import ALTERED, Event, Mac, evidence_digest, walk
from radlake.lake.evidence import state_from_evidence
from radlake.lake.ledger_tables import STUDY
from radlake.lake.study_rows import entry_from_row

__all__ = ["Problem", "problems"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    where : str
        `chain`, `study`, `certificate` or `catalogue`.
    name : str
        Of the event, the study (its UID in the lake, else its first event) or the certificate: no identifier.
    """

    hospital_id: str
    where: str
    name: str
    told: str


def problems(
    connection: sa.Connection,
    hospital_id: str,
    *,
    mac: Mac,
    head: HeadFile,
    folder: Path,
    published: Mapping[int, str],
    today: date,
) -> Iterator[Problem]:
    """Everything that is wrong with a hospital's ledger in itself.

    Parameters
    ----------
    folder : Path
        Where the files of its certificates lie.
    published : mapping
        Digest of each certificate by number, as ops.certificate tells it.
    today : date
        In Asia/Shanghai.
    """
    first: dict[str, int] = {}
    last: dict[str, Event] = {}
    heads: dict[int, str] = {}
    at_head: dict[int, str] = {}
    texts = documents(connection, hospital_id)
    issued = [(number, text, _certificate(text)) for number, text in texts]
    wanted = issued[-1][2].head_seq if issued and issued[-1][2] else -1
    found: list[Problem] = []

    def links() -> Iterator[Link]:
        if wanted == 0:
            at_head[0] = merkle_root([])
        for event in walk(connection, hospital_id):
            first.setdefault(event.study_uid, event.seq)
            last[event.study_uid] = event
            heads[event.seq] = event.mac
            if event.what == ALTERED:
                told = f"event {event.seq} found the study changed by somebody else"
                found.append(Problem(hospital_id, "chain", f"event {event.seq}", told))
            if event.seq == wanted:
                at_head[event.seq] = merkle_root(last[uid].evidence for uid in sorted(last))
            yield event.link(mac)

    for seq, told in broken_links(links(), kept=head.read(), name=head.path.name):
        found.append(Problem(hospital_id, "chain", f"event {seq}", told))
    yield from found
    yield from _study_problems(connection, hospital_id, first=first, last=last)

    def broken(name: str, told: str) -> Problem:
        return Problem(hospital_id, "certificate", name, told)

    known = [one for _, _, one in issued if one]
    names = dict(zip((one.number for one in known), file_names(known), strict=True))
    previous = ""
    for position, (number, text, one) in enumerate(issued, 1):
        if one is None or (one.hospital_id, one.number) != (hospital_id, number) or number != position:
            yield broken(f"number {number}", "it is missing, out of its order or unreadable in the database")
            continue
        name = names[number]
        if one.sealed(mac) != one.mac or one.document != text:
            yield broken(name, "it was changed, or issued with another key")
        if one.day > today:
            yield broken(name, "its day has not come yet: the clock was ahead when it was issued, or is behind now")
        if one.previous != previous:
            yield broken(name, "it does not follow the certificate before it")
        if one.head_seq and heads.get(one.head_seq) != one.head_mac:
            yield broken(name, f"the history has another event {one.head_seq} than it had, or none")
        elif one.head_seq in at_head and at_head[one.head_seq] != one.root:
            yield broken(name, "the studies of that day were not those that it certifies")
        yield from _file_problems(folder / name, text, broken)
        if published.get(number) != one.digest:
            yield broken(name, "ops.certificate of the lake has it otherwise or not at all")
        previous = one.digest
    for name in sorted({path.name for path in folder.glob("*.json")} - set(names.values())):
        yield broken(name, "the file is of no certificate in the database")
    for number in sorted(set(published) - {number for number, _ in texts}):
        yield broken(f"number {number}", "ops.certificate of the lake has it, the database has not")


def _study_problems(
    connection: sa.Connection, hospital_id: str, *, first: Mapping[str, int], last: Mapping[str, Event]
) -> Iterator[Problem]:
    seen: set[str] = set()
    query = sa.select(STUDY).where(STUDY.c.hospital_id == hospital_id).execution_options(yield_per=1000)
    for number, row in enumerate(map(dict, connection.execute(query).mappings()), 1):
        uid = row["study_uid"]
        seen.add(uid)
        event = last.get(uid)
        name = row["lake_study_uid"] or (f"study of event {first[uid]}" if event else f"row {number}")
        if event is None:
            yield Problem(hospital_id, "study", name, "it has no history: somebody else put it in")
        elif event.evidence != evidence_digest(row) or event.at != row["updated_at"]:
            yield Problem(hospital_id, "study", name, f"it is not as event {event.seq} left it: somebody changed it")
        try:
            entry = entry_from_row(row)
        except (ValueError, TypeError, KeyError):
            yield Problem(hospital_id, "study", name, "its row cannot be read")
            continue
        state, reason = state_from_evidence(entry)
        if (state, reason) != (entry.state, entry.reason):
            yield Problem(hospital_id, "study", name, f"it is called {entry.state}, but is {state} by what is known")
    for uid in sorted(set(last) - seen):
        told = "it has a history and is gone: somebody removed it"
        yield Problem(hospital_id, "study", f"study of event {first[uid]}", told)


def _file_problems(path: Path, text: str, broken: Callable[[str, str], Problem]) -> Iterator[Problem]:
    try:
        if path.read_text(encoding="utf-8") != text:
            yield broken(path.name, "its file was changed")
    except (OSError, UnicodeDecodeError):
        yield broken(path.name, "its file is missing or unreadable")


def _certificate(text: str) -> Certificate | None:
    try:
        return Certificate.from_document(text)
    except (ValueError, TypeError, KeyError):
        return None
