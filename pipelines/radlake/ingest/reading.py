"""First pass over the files of a study: read and validate every header, take away resends. No pixel is read.

The first instance of a series is read in full by the strict reader and checked. A further header that has the same
elements, and differs only in some that decide nothing (`HeaderTemplate`), needs neither: all else is equal to the byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import xxhash
from pydicom import Dataset

from radlake.deidentify.elements import dataset
from radlake.deidentify.template import may_vary, needs_whole, tells_more
from radlake.deidentify.told import Told, identifiers_of
from radlake.dicom.part10 import read_instance
from radlake.dicom.template import (
    Exemplar,
    HeaderTemplate,
    Match,
    Scanned,
    exemplar_of,
    read_start,
    scan_header,
    varying_tags,
)
from radlake.dicom.uids import is_instance_uid
from radlake.dicom.values import first_text
from radlake.errors import QuarantineError, SourceMissing
from radlake.ingest.job import IngestJob, Refused, SourceFile, unexpected
from radlake.lake.digests import digest_of_file, quarantine_id_of
from radlake.pixels import DecisionKind
from radlake.validate import check_instance

__all__ = ["Matched", "Readable", "Reading", "read_files"]

_SOP_INSTANCE, _STUDY, _SERIES, _NUMBER = 0x00080018, 0x0020000D, 0x0020000E, 0x00200013
_PIXELS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
_MOST_TEMPLATES = 8  # of a study, most recently used first
_MOST_EXEMPLARS = 4  # of a series
_MOST_KEPT = 64  # instances read in full that stay in memory until the second pass; the others are read again
_GROUPS = frozenset(
    [0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040]
)  # what the exam and the person are told in


class Matched(NamedTuple):
    """A header that matched a template; the second pass finds it unchanged when its digest is equal."""

    template: HeaderTemplate
    values: tuple[bytes, ...]
    pixels_at: int
    n_bytes: int
    header_digest: int


@dataclass(slots=True, kw_only=True)
class Readable:
    """A file that may be stored.

    Attributes
    ----------
    header : Dataset
        Identified, without pixels; shared by all that match a template, so only what cannot vary is its own.
    ds : Dataset or None
        The whole data set, when it was read in full and there was room to keep it.
    source_digest : str
        XXH3-128 of the file; empty until somebody needs it.
    has_twin : bool
        Another file of the study has the same SOP Instance UID.
    """

    file: SourceFile
    header: Dataset
    series_uid: str
    sop_uid: str
    number: float
    matched: Matched | None = None
    ds: Dataset | None = None
    source_digest: str = ""
    has_twin: bool = False


@dataclass
class Reading:
    """What the first pass found."""

    readable: list[Readable] = field(default_factory=list)
    resends: list[SourceFile] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    gone: list[SourceFile] = field(default_factory=list)

    def series(self) -> dict[str, list[Readable]]:
        """Series by UID; instances by number, then UID: the same object whatever order they came in."""
        groups: dict[str, list[Readable]] = {}
        for item in self.readable:
            groups.setdefault(item.series_uid, []).append(item)
        return {
            uid: sorted(groups[uid], key=lambda item: (item.number, item.sop_uid, item.source_digest))
            for uid in sorted(groups)
        }


def read_files(job: IngestJob, *, use_templates: bool = True) -> Reading:
    """Read the headers of a study's files; nothing raises but what ends the run."""
    return _Reader(job, use_templates=use_templates and len(job.files) > 1).read()


class _Reader:
    def __init__(self, job: IngestJob, *, use_templates: bool) -> None:
        self._job = job
        self._use_templates = use_templates
        self._found = Reading()
        self._seen: dict[str, list[Readable]] = {}
        self._known = {item.source_digest for item in job.stored.values()}
        self._templates: list[HeaderTemplate] = []
        self._exemplars: dict[bytes, list[Exemplar]] = {}  # by series
        self._told: dict[int, Told] = {}  # by exemplars
        self._n_kept = 0
        self._sop_uid = ""  # of the file at hand, as far as it is known

    def read(self) -> Reading:
        found = self._found
        for file in self._job.files:
            self._sop_uid = file.sop_uid
            try:
                self._read(file)
            except QuarantineError as error:
                found.refused.append(Refused(file, self._sop_uid, error))
            except (OSError, SourceMissing):
                found.gone.append(file)
            except Exception as exc:  # one bad instance never fails a study
                found.refused.append(Refused(file, self._sop_uid, unexpected(exc)))
        for item in found.readable:
            self._renew(item)
        return found

    def _read(self, file: SourceFile) -> None:
        digest = ""
        if self._known or self._job.kept_out or file.decision is not None:
            digest = digest_of_file(file.path)
            if digest in self._known:
                self._found.resends.append(file)
                return
            if (error := self._why_kept_out(file, digest)) is not None:
                raise error
        item = self._matched(file) or self._compared(file) or self._read_in_full(file)
        item.source_digest = digest
        twins = self._seen.setdefault(item.sop_uid, [])
        if twins:
            for twin in (*twins, item):
                twin.has_twin = True
                twin.source_digest = twin.source_digest or digest_of_file(twin.file.path)
            if any(twin.source_digest == item.source_digest for twin in twins):
                self._found.resends.append(file)
                return
        twins.append(item)
        self._found.readable.append(item)

    def _why_kept_out(self, file: SourceFile, digest: str) -> QuarantineError | None:
        if file.decision is None:
            return self._job.kept_out.get(quarantine_id_of(self._job.hospital_id, digest))
        is_rejected = file.decision.kind is DecisionKind.REJECT
        return QuarantineError(reason="rejected_by_reviewer", detail="") if is_rejected else None

    def _matched(self, file: SourceFile) -> Readable | None:
        """The file by a template; None when none matches."""
        if not self._templates or file.decision is not None:
            return None
        start, n_bytes = read_start(file.path, n_bytes=self._templates[0].n_bytes)
        for place, template in enumerate(self._templates):
            match = template.match(start, n_bytes)
            if match is not None:
                if place:
                    self._templates.insert(0, self._templates.pop(place))
                return self._by_template(file, template, match, start, n_bytes)
        return None

    def _compared(self, file: SourceFile) -> Readable | None:
        """The file by a template that is made of how it differs from one that was read in full."""
        if not self._exemplars or file.decision is not None:
            return None
        start, n_bytes = read_start(file.path)
        scan = scan_header(start, n_bytes)
        if scan is None:
            return None
        for exemplar in self._exemplars.get(scan.value(_SERIES), ()):
            template = self._template_of(exemplar, scan)
            match = template.match(start, n_bytes) if template else None
            if template is not None and match is not None:
                self._templates = [template, *(one for one in self._templates if one.exemplar is not exemplar)]
                del self._templates[_MOST_TEMPLATES:]
                return self._by_template(file, template, match, start, n_bytes)
        return None

    def _template_of(self, exemplar: Exemplar, scan: Scanned) -> HeaderTemplate | None:
        """A template that the exemplar, this header and all that matched the exemplar's template before match."""
        varying = varying_tags(exemplar, scan)
        if not varying or _SOP_INSTANCE not in varying or not all(may_vary(exemplar, tag) for tag in varying):
            return None
        for template in self._templates:
            if template.exemplar is exemplar:
                varying |= template.varying
        whole = frozenset(tag for tag in varying if needs_whole(exemplar, tag))
        return HeaderTemplate(exemplar, varying, whole=whole)

    def _read_in_full(self, file: SourceFile) -> Readable:
        ds = read_instance(file.path)
        check_instance(ds, size=file.path.stat().st_size)
        self._sop_uid = first_text(ds, _SOP_INSTANCE)
        if first_text(ds, _STUDY) != self._job.study_uid:
            raise QuarantineError(reason="study_mismatch", detail="the node sent an instance of another study")
        header = _without_pixels(ds)
        item = Readable(
            file=file,
            header=header,
            series_uid=first_text(ds, _SERIES),
            sop_uid=self._sop_uid,
            number=_number(first_text(ds, _NUMBER)),
        )
        is_exemplar = self._use_templates and file.decision is None and self._keep_exemplar(item)
        if self._n_kept < _MOST_KEPT:
            item.ds = ds
            self._n_kept += 1
        elif not is_exemplar:
            item.header = dataset({tag: elem for tag, elem in header._dict.items() if tag >> 16 in _GROUPS})
        return item

    def _keep_exemplar(self, item: Readable) -> bool:
        """Keep the header to compare others with; whether it can be one and there was room."""
        scan = scan_header(*read_start(item.file.path))
        exemplar = exemplar_of(scan, item.header) if scan else None
        if exemplar is None:
            return False
        others = self._exemplars.setdefault(exemplar.value(_SERIES), [])
        if len(others) < _MOST_EXEMPLARS:
            others.append(exemplar)
        return others[-1] is exemplar

    def _by_template(
        self, file: SourceFile, template: HeaderTemplate, match: Match, start: bytes, n_bytes: int
    ) -> Readable | None:
        sop_uid = match.values[template.tags.index(_SOP_INSTANCE)].rstrip(b"\0 ").decode("ascii", "replace")
        if not is_instance_uid(sop_uid):
            return None
        exemplar = template.exemplar
        for tag in template.whole:
            element = match.values[template.tags.index(tag)]
            if tells_more(exemplar, tag, element, told=self._told_by(exemplar)):
                return None
        if _NUMBER in template.varying:
            number = match.values[template.tags.index(_NUMBER)].decode("utf-8", "replace").split("\\")[0].strip(" \0")
        else:
            number = exemplar.instance_number
        return Readable(
            file=file,
            header=exemplar.ds,
            series_uid=exemplar.series_uid,
            sop_uid=sop_uid,
            number=_number(number),
            matched=Matched(
                template, match.values, match.pixels_at, n_bytes, xxhash.xxh3_64_intdigest(start[: match.pixels_at])
            ),
        )

    def _told_by(self, exemplar: Exemplar) -> Told:
        if id(exemplar) not in self._told:
            self._told[id(exemplar)] = identifiers_of([exemplar.ds])
        return self._told[id(exemplar)]

    def _renew(self, item: Readable) -> None:
        """Match an early instance again with the template that replaced its own, so that fewer have to be learnt."""
        matched = item.matched
        if matched is None or matched.template in self._templates:
            return
        for template in self._templates:
            if template.exemplar is matched.template.exemplar:
                start, n_bytes = read_start(item.file.path, n_bytes=template.n_bytes)
                match = template.match(start, n_bytes)
                renewed = self._by_template(item.file, template, match, start, n_bytes) if match else None
                if renewed is not None and renewed.sop_uid == item.sop_uid:
                    item.matched = renewed.matched


def _without_pixels(ds: Dataset) -> Dataset:
    header = dataset({tag: elem for tag, elem in ds._dict.items() if tag not in _PIXELS})
    header.file_meta = ds.file_meta
    return header


def _number(text: str) -> float:
    """Instance Number as a place in the series; those without one come last."""
    try:
        number = float(text)
    except ValueError:
        return float("inf")
    return float("inf") if math.isnan(number) else number
