"""The referee at work: judges objects, files and names one after the other and keeps the report."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from radlake.referee.conformance import Dciodvfy
from radlake.referee.files import archive_members, archive_rest, is_object, parts_of
from radlake.referee.finding import Finding, Report
from radlake.referee.instance import Instance, Unreadable, read, read_file
from radlake.referee.judge import find_identifiers, judge_alone, policy_for
from radlake.referee.originals import Originals
from radlake.referee.pairs import Comparison
from radlake.referee.search import ALL, Searcher, telltales_in
from radlake.referee.standard import Policy

__all__ = ["Referee", "check_written"]

_STUDY_UID = 0x0020000D
_MAX_NESTING = 3
_NAMES_OF_HOSPITALS = ("ref/", "ops/")  # tables that name a hospital on purpose


def check_written(
    original: bytes | Path,
    written: bytes,
    *,
    policy: Policy | None = None,
    where: str = "",
    rows: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """All rules on one object and its original.

    Parameters
    ----------
    original : bytes or Path
        Part-10 file. One that pydicom cannot read tells nothing: the object is then judged alone.
    written : bytes
        Part-10 file; of a large one the part before the pixels is enough.
    policy : Policy or None
        What the profile allows; without it what the object claims.
    where : str
        Name of the object for the findings.
    rows : sequence of mapping
        Rows of tables that tell of it: their text is searched too.
    """
    originals = Originals()
    report = Report()
    try:
        before = read_file(original) if isinstance(original, Path) else read(original)
    except Unreadable:
        before = None
    if before is not None:
        originals.add(before)
    hospitals = {str(row["hospital_id"]) for row in rows if row.get("hospital_id")}
    referee = Referee(originals, policy=policy, report=report, hospitals=hospitals)
    referee.judge_object(written, where=where, original=before)
    for row in rows:
        referee.judge_row(row, where=where, original=before)
    referee.conclude()
    return report.findings


class Referee:
    """Judges what was written; `report` has the outcome after `conclude`.

    Parameters
    ----------
    hospitals : collection of str
        Names that the lake itself has for hospitals. An original may tell one as the issuer of its Patient ID; in
        tables, names and logs of the lake it is no identifier, in an object it is.
    """

    def __init__(
        self,
        originals: Originals,
        *,
        policy: Policy | None = None,
        report: Report | None = None,
        dciodvfy: Dciodvfy | None = None,
        hospitals: Collection[str] = (),
    ) -> None:
        self.report = report if report is not None else Report()
        self._policy = policy
        self._searcher = Searcher(originals.identifiers)
        self._comparison = Comparison(policy)
        self._dciodvfy = dciodvfy
        self._withheld: dict[str, str] = {}
        names = b"|".join(re.escape(name.encode()) for name in sorted(hospitals, key=len, reverse=True))
        self._hospitals = re.compile(rb"(?i)(?<![a-z0-9])(?:" + names + rb")(?![a-z0-9])") if names else None

    def judge_object(self, data: bytes, *, where: str, original: Instance | None = None, owner: str = "") -> None:
        """One Part-10 file.

        Parameters
        ----------
        original : Instance or None
            What it was made from, where that is known.
        owner : str
            The original study, where only that is known: its weak identifiers are searched for too.
        """
        self.report.looked_at["objects"] += 1
        self.report.looked_at["bytes"] += len(data)
        try:
            written = read(data)
        except Unreadable:
            self.report.add([Finding("unreadable", self._named(where))])
            return
        owner = original.text(_STUDY_UID) if original is not None else owner
        findings = [*find_identifiers(written, self._searcher, owner=owner)]
        findings += judge_alone(written, policy_for(written, self._policy))
        self._add(findings, where)
        if original is not None:
            self.report.looked_at["pairs"] += 1
            self._add(self._comparison.compare(original, written, where=where), where)
            if self._dciodvfy is not None:
                worse = self._dciodvfy.worse(original.data, data)
                self._add((Finding("conformance", "", "", kind) for kind in worse), where)

    def judge_file(self, file: BinaryIO, *, where: str, nesting: int = 0) -> None:
        """One file of any other kind; an archive with everything in it."""
        self.report.looked_at["files"] += 1
        if zipfile.is_zipfile(file):
            self._judge_archive(file, where=where, nesting=nesting)
            return
        file.seek(0)
        rule = "identifier-in-table" if where.endswith(".parquet") else "identifier-in-file"
        try:
            for path, vr, data in parts_of(file, where):
                self.report.looked_at["bytes"] += len(data)
                self._add(self._searched(data, rule=rule, path=path, vr=vr, where=where), where)
        except (OSError, ValueError, EOFError):
            self.report.add([Finding("unreadable", self._named(where))])

    def judge_row(self, row: Mapping[str, Any], *, where: str, original: Instance | None) -> None:
        """The text columns of one row."""
        owner = original.text(_STUDY_UID) if original is not None else ALL
        for name, value in row.items():
            if isinstance(value, str):
                data, path = value.encode("utf-8", "surrogatepass"), f"column {name}"
                found = self._searched(data, rule="identifier-in-table", path=path, vr="text", where=where, owner=owner)
                self._add(found, where)

    def judge_name(self, name: str) -> None:
        """The name of a file or object, below the root of what is verified."""
        data = self._without_hospitals(name.encode("utf-8", "surrogateescape"))
        hits = self._searcher.hits(data, vr="text", owner=ALL)
        kinds = {(hit.kind, hit.encoding) for hit in hits}
        kinds |= {(kind, "telltale") for kind in telltales_in(name.encode("utf-8", "replace"), vr="text")}
        if kinds:
            self._withheld[name] = f"name withheld, XXH3 {xxhash.xxh3_64_hexdigest(name.encode('utf-8', 'replace'))}"
            self.report.add(Finding("identifier-in-name", self._named(name), "", *kind) for kind in sorted(kinds))

    def judge_bytes(self, data: bytes, *, where: str, path: str) -> None:
        """Bytes between things: the directory of an object, gaps."""
        self._add(self._searched(data, rule="identifier-in-archive", path=path, vr="bulk", where=where), where)

    def conclude(self) -> Report:
        """Add what only all pairs together show."""
        self._add(self._comparison.conclude(), "")
        self.report.looked_at.update({f"pixels {word}": n for word, n in self._comparison.pixels_compared.items()})
        return self.report

    def _judge_archive(self, file: BinaryIO, *, where: str, nesting: int) -> None:
        if nesting >= _MAX_NESTING:
            self.report.add([Finding("unreadable", self._named(where), "archives in archives")])
            return
        try:
            with zipfile.ZipFile(file) as archive:
                self.judge_bytes(archive_rest(file, archive), where=where, path="names and comments")
                for name, data in archive_members(archive):
                    inner = f"{where}!{name}"
                    self.judge_name(inner)
                    if is_object(data[:132], name):
                        self.judge_object(data, where=inner)
                    else:
                        self.judge_file(io.BytesIO(data), where=inner, nesting=nesting + 1)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
            self.report.add([Finding("unreadable", self._named(where))])

    def _searched(
        self, data: bytes, *, rule: str, path: str, vr: str, where: str, owner: str = ALL
    ) -> Iterable[Finding]:
        data = self._without_hospitals(data)
        names_hospitals = any(f"/{part}" in f"/{where}" for part in _NAMES_OF_HOSPITALS)
        for hit in self._searcher.hits(data, vr=vr, owner=owner):
            if not (names_hospitals and hit.kind == "institution"):
                yield Finding(rule, "", path, hit.kind, hit.encoding)
        for kind in telltales_in(data, vr=vr) - {"institution"}:
            yield Finding("telltale", "", path, kind)

    def _without_hospitals(self, data: bytes) -> bytes:
        return self._hospitals.sub(b" ", data) if self._hospitals else data

    def _add(self, findings: Iterable[Finding], where: str) -> None:
        self.report.add(
            Finding(found.rule, self._named(found.where or where), found.path, found.kind, found.encoding)
            for found in findings
        )

    def _named(self, where: str) -> str:
        return self._withheld.get(where, where)
