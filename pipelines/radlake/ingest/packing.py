"""Second pass over the files of a study: de-identify each, and give its bytes to the series object in pieces.

An instance whose header matched a template has its varying elements treated and its pixels copied from file to object
through one small buffer. Every other one goes the full way: reader, walk, writer. Both give the same bytes.
"""

from __future__ import annotations

import mmap
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import xxhash
from pydicom import Dataset

from radlake.deidentify import Deidentifier, Person
from radlake.deidentify.template import Treated, TreatedTemplate, Unfit
from radlake.deidentify.told import Told
from radlake.dicom.part10 import read_instance
from radlake.dicom.template import HeaderTemplate
from radlake.dicom.values import first_text
from radlake.dicom.writer import Encoded, encode_parts
from radlake.errors import IdentifierLeak, PrivacyError, QuarantineError, SourceMissing, TransientError
from radlake.ingest.fields import Fields, field_of, fields_of
from radlake.ingest.job import IngestJob, Refused, unexpected
from radlake.ingest.reading import Matched, Readable, Reading
from radlake.ingest.rows import InstanceColumns
from radlake.lake.digests import digest_of_file
from radlake.lake.objects import MemberLost
from radlake.pixels import Verdict, is_radiograph, judge
from radlake.pixels.remains import blanked_fragments
from radlake.validate import check_instance
from radlake.validate.pixels import fragment_check

__all__ = ["Packed", "Packing"]

_SOP_INSTANCE, _STUDY, _SERIES, _PATIENT_ID = 0x00080018, 0x0020000D, 0x0020000E, 0x00100020
_AT_ONCE = 64  # headers that are treated before the first of their pixels is copied, which empties the cache
_CHUNK = 640 * 1024  # a CT slice with its header; stays in the cache of a core between reading, digesting and writing
_LONGEST_HEAD = 64 * 1024
_LONG_UID = 16
_FRAGMENTS = 32 << 20  # encapsulated pixel data that are read at once to be checked
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_MAPPED = 24 * _CHUNK  # bytes of a mapped file that may be in memory


@dataclass(slots=True)
class Packed:
    """An instance that was given to the series object; its digests are known when its bytes have been taken.

    Attributes
    ----------
    columns : dict
        The columns of dicom.instance that are read from its header.
    fields : callable
        Gives the fields of its header: only those of a series' first instance are needed.
    """

    item: Readable
    columns: dict[str, Any]
    fields: Callable[[], Fields]
    pixel_offset: int | None
    digest: str = ""

    @property
    def name(self) -> str:
        """Of the member."""
        return f"{self.columns['sop_instance_uid']}.dcm"


class _Made(NamedTuple):
    """A de-identified instance: its header, all its bytes in pieces, and what is known of it."""

    head: bytes
    pieces: Iterator[bytes | memoryview]
    packed: Packed
    holds_pixels: bool


class _Header(NamedTuple):
    """What a header by template became, and the fields of it that differ from instance to instance."""

    head: bytes
    fields: dict[int, tuple[bytes, bytes]]


class _Learnt(NamedTuple):
    """What a template's exemplar became.

    Attributes
    ----------
    columns : dict
        Of its row.
    changing : InstanceColumns
        Those of them that other instances have otherwise.
    read, beside
        What they are read from: attributes that vary, and fields that do not.
    check_fragments : callable or None
        Of encapsulated pixel data.
    """

    treated: TreatedTemplate
    columns: dict[str, Any]
    changing: InstanceColumns
    read: frozenset[int]
    beside: dict[int, tuple[bytes, bytes]]
    check_fragments: Callable[[bytes | memoryview], object] | None


class Packing:
    """De-identifies the instances of one study; what it cannot goes to `reading.refused`.

    Parameters
    ----------
    told : frozenset of (kind, text)
        What all headers of the study tell.

    Attributes
    ----------
    packed : dict
        By member name, of all series: an instance belongs to one.
    ways : Counter
        How many instances went by template, and why the others went the full way.
    """

    def __init__(
        self, job: IngestJob, reading: Reading, *, deidentifier: Deidentifier, person: Person, told: Told
    ) -> None:
        self.packed: dict[str, Packed] = {}
        self.ways: Counter[str] = Counter()
        self._job = job
        self._reading = reading
        self._deidentifier = deidentifier
        self._person = person
        self._told = told
        matched = (item.matched for item in reading.readable if item.matched)
        self._exemplars = {id(one.template.exemplar.ds) for one in matched}
        self._full: dict[int, Treated | None] = {}  # what the full way made of exemplars, by the id of their header
        self._learnt: dict[int, _Learnt | Unfit] = {}  # by the id of the template
        self._together: list[Readable] = []
        self._ahead: dict[int, _Header] = {}  # those of them that were treated with another, by the id of the item
        self._buffer = memoryview(bytearray(_LONGEST_HEAD + _CHUNK))

    def members(self, items: list[Readable]) -> Iterator[tuple[str, Iterator[bytes | memoryview]]]:
        """Member name and the pieces of its content, for those of a series that are to be stored.

        A piece is valid until the next is asked for. Pieces raise MemberLost when a file cannot be read to its end.
        """
        for begin in range(0, len(items), _AT_ONCE):
            self._together, self._ahead = items[begin : begin + _AT_ONCE], {}
            ready: list[_Made] = []
            for item in self._together:
                made = self._made_or_refused(item)
                if made is not None:
                    ready.append(made)
                if made is not None and made.holds_pixels:
                    yield from ((one.packed.name, one.pieces) for one in ready)
                    ready.clear()
            yield from ((one.packed.name, one.pieces) for one in ready)

    def _made_or_refused(self, item: Readable) -> _Made | None:
        try:
            return self._made(item)
        except QuarantineError as error:
            self._reading.refused.append(Refused(item.file, item.sop_uid, error))
        except (SourceMissing, OSError):
            self._reading.gone.append(item.file)
        except IdentifierLeak as leak:  # it goes no further, and stops the batch before anything is published
            error = QuarantineError(reason="referee_objection", detail=f"last look: {leak.facts['rule']}")
            self._reading.refused.append(Refused(item.file, item.sop_uid, error))
        except (PrivacyError, TransientError):
            raise
        except Exception as exc:  # fail closed: nothing of it is written
            self._reading.refused.append(Refused(item.file, item.sop_uid, unexpected(exc)))
        return None

    def _made(self, item: Readable) -> _Made | None:
        made = self._by_template(item) or self._in_full(item)
        _last_look(made.head, item, study_uid=self._job.study_uid)
        name = made.packed.name
        before = self.packed.get(name) or self._job.stored.get(item.sop_uid)
        if item.has_twin or before is not None:
            made.packed.digest = _digest(made.pieces)
            if before is not None:
                self._take_twin(item, is_equal=before.digest == made.packed.digest)
                return None
            made = made._replace(pieces=(self._by_template(item) or self._in_full(item)).pieces)
        self.packed[name] = made.packed
        return made

    def _take_twin(self, item: Readable, *, is_equal: bool) -> None:
        if is_equal:
            self._reading.resends.append(item.file)
            return
        detail = "an instance with this SOP Instance UID and other content is stored"
        error = QuarantineError(reason="sop_instance_conflict", detail=detail)
        self._reading.refused.append(Refused(item.file, item.sop_uid, error))

    def _in_full(self, item: Readable) -> _Made:
        ds, item.ds = item.ds or self._read_again(item), None
        if not item.matched:
            self.ways["read in full"] += 1
        encoded = self._treated(ds, item)
        item.source_digest = item.source_digest or digest_of_file(item.file.path)
        fields = fields_of(encoded.head)
        offset = len(encoded.head) if encoded.pixels else None
        packed = Packed(item, InstanceColumns().of(fields), lambda: fields, offset)
        return _Made(encoded.head, _pieces(encoded), packed, holds_pixels=True)

    def _read_again(self, item: Readable) -> Dataset:
        """The instance that the first pass read: a file may have been exchanged since, even for that of another person.

        Raises
        ------
        QuarantineError, SourceMissing
            As `read_instance` and `check_instance`, and when the file holds another instance now.
        """
        ds = read_instance(item.file.path)
        check_instance(ds, size=item.file.path.stat().st_size)
        place = self._job.study_uid, item.series_uid, item.sop_uid, first_text(item.header, _PATIENT_ID)
        if tuple(first_text(ds, tag) for tag in (_STUDY, _SERIES, _SOP_INSTANCE, _PATIENT_ID)) != place:
            raise SourceMissing(path="A file (another instance than before)")
        return ds

    def _treated(self, ds: Dataset, item: Readable) -> Encoded:
        """De-identify and encode; of an exemplar, remember what its template needs to know."""
        done = self._deidentifier.treat(
            ds,
            person=self._person,
            hospital_id=self._job.hospital_id,
            decision=item.file.decision,
            told=self._told,
        )
        encoded = encode_parts(done.ds)
        if not item.matched and id(item.header) in self._exemplars:
            self._full[id(item.header)] = None if done.are_pixels_changed else Treated(encoded.head, done.walk)
        return encoded

    def _by_template(self, item: Readable) -> _Made | None:
        """None when the instance has to go the full way; why is counted."""
        if item.matched is None:
            return None
        try:
            learnt = self._learnt_from(item.matched.template)
            head, fields = self._ahead.get(id(item)) or self._header(item, item.matched.template, learnt)
            pieces, holds_pixels = self._copied(item, learnt, head)
        except Unfit as reason:
            self.ways[str(reason)] += 1
            return None
        self.ways["by template"] += 1
        columns = {**learnt.columns, **learnt.changing.of({**learnt.beside, **fields})}
        packed = Packed(item, columns, partial(fields_of, head), len(head))
        return _Made(head, pieces, packed, holds_pixels)

    def _header(self, item: Readable, template: HeaderTemplate, learnt: _Learnt) -> _Header:
        """The header of an instance, treated with those at hand of its template; alone when one is unfit."""
        fitting = [one for one in self._together if one.matched and one.matched.template is template]
        if fitting:
            try:
                self._ahead |= zip(map(id, fitting), _headers(fitting, learnt), strict=True)
                return self._ahead[id(item)]
            except Unfit:
                self._together = []
        return next(_headers([item], learnt))

    def _learnt_from(self, template: HeaderTemplate) -> _Learnt:
        """What the exemplar of a template becomes; worked out once, also when it cannot be used."""
        learnt = self._learnt.get(id(template))
        if learnt is None:
            try:
                learnt = self._learn(template)
            except Unfit as reason:
                learnt = reason
            self._learnt[id(template)] = learnt
        if isinstance(learnt, Unfit):
            raise learnt
        return learnt

    def _learn(self, template: HeaderTemplate) -> _Learnt:
        header = template.exemplar.ds
        if is_radiograph(header):
            raise Unfit("radiographs, each of which gets a glance")
        if id(header) not in self._full:
            item = next(item for item in self._reading.readable if item.header is header and not item.matched)
            try:
                ds = item.ds or self._read_again(item)
                if judge(ds).verdict is Verdict.CLEAN:
                    self._treated(ds, item)
            except (QuarantineError, SourceMissing):
                raise Unfit("an exemplar that is set aside") from None
        treated = self._full.get(id(header))
        if treated is None:
            raise Unfit("pixels that have to be looked at")
        scratch = partial(
            self._deidentifier.walk, person=self._person, hospital_id=self._job.hospital_id, told=self._told
        )
        made = TreatedTemplate(template, treated, scratch=scratch)
        fields = fields_of(treated.head)
        changing = InstanceColumns(made.tags)
        beside = {tag: fields[tag] for tag in changing.tags - made.tags if tag in fields}
        check = fragment_check(header) if template.exemplar.is_encapsulated else None
        return _Learnt(made, InstanceColumns().of(fields), changing, changing.tags & made.tags, beside, check)

    def _copied(self, item: Readable, learnt: _Learnt, head: bytes) -> tuple[Iterator[bytes | memoryview], bool]:
        """The pieces of an instance by template: header, pixels as they lie in the file; and whether these are read."""
        assert item.matched is not None
        if learnt.check_fragments is not None:
            return iter((head, _fragments(item, item.matched, check=learnt.check_fragments), _SEQUENCE_END)), True
        if len(head) > _LONGEST_HEAD:
            raise Unfit("a long header")
        return self._pixels(item, item.matched, head), False

    def _pixels(self, item: Readable, matched: Matched, head: bytes) -> Iterator[bytes | memoryview]:
        """Header and native pixels through one buffer, in one piece as long as it holds them.

        The file is digested on the way.
        """
        buffer, n_bytes, digest = self._buffer[_LONGEST_HEAD:], 0, xxhash.xxh3_128()
        pixels_at = _LONGEST_HEAD + matched.pixels_at
        start = pixels_at - len(head)
        try:
            file = os.open(item.file.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                n_read = os.readv(file, [buffer])
                if xxhash.xxh3_64_intdigest(buffer[: matched.pixels_at]) != matched.header_digest:
                    raise OSError("another header than before")
                digest.update(buffer[:n_read])
                self._buffer[start:pixels_at] = head
                while n_read:
                    n_bytes += n_read
                    yield self._buffer[start : _LONGEST_HEAD + n_read]
                    if n_read < _CHUNK and n_bytes == matched.n_bytes:
                        break  # the file ends here
                    start, n_read = _LONGEST_HEAD, os.readv(file, [buffer])
                    digest.update(buffer[:n_read])
            finally:
                os.close(file)
            if n_bytes != matched.n_bytes:
                raise OSError("another size than before")
        except OSError as exc:
            self._lose(item)
            raise MemberLost from exc
        item.source_digest = digest.hexdigest()

    def _lose(self, item: Readable) -> None:
        """A file that could be read before and cannot now."""
        self._reading.gone.append(item.file)
        self.packed = {name: packed for name, packed in self.packed.items() if packed.item is not item}


def _headers(items: Sequence[Readable], learnt: _Learnt) -> Iterator[_Header]:
    """Headers of instances that have one template.

    Raises
    ------
    Unfit
        If one of them has to go the full way.
    """
    heads, elements = learnt.treated.treat([item.matched.values for item in items if item.matched])
    read = [(tag, elements[tag]) for tag in learnt.read]
    for n, head in enumerate(heads):
        yield _Header(head, {tag: field_of(column[n]) for tag, column in read if column[n]})


def _fragments(item: Readable, matched: Matched, *, check: Callable[[bytes | memoryview], object]) -> memoryview:
    """Encapsulated pixel data without the end, checked like those of an instance that is read in full."""
    if matched.n_bytes - matched.pixels_at > _FRAGMENTS:
        raise Unfit("large encapsulated pixel data")
    file = os.open(item.file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = memoryview(os.read(file, matched.n_bytes + 1))
    finally:
        os.close(file)
    is_same = xxhash.xxh3_64_intdigest(data[: matched.pixels_at]) == matched.header_digest
    if not is_same or len(data) != matched.n_bytes or data[-8:-4] != _SEQUENCE_END[:4]:
        raise Unfit("something behind the pixels")
    fragments = data[matched.pixels_at : -len(_SEQUENCE_END)]
    try:
        check(fragments)
    except QuarantineError:
        raise Unfit("fragments that are not in order") from None
    item.source_digest = xxhash.xxh3_128_hexdigest(data)
    return memoryview(blanked_fragments(fragments, matched.template.exemplar.ds) or fragments)


def _pieces(encoded: Encoded) -> Iterator[bytes | memoryview]:
    """Large pixels a piece at a time, so that what is mapped of a file does not stay in memory."""
    yield encoded.head
    pixels = memoryview(encoded.pixels)
    for begin in range(0, len(pixels), _CHUNK):
        yield pixels[begin : begin + _CHUNK]
        if isinstance(pixels.obj, mmap.mmap) and begin % _MAPPED == 0:
            pixels.obj.madvise(mmap.MADV_DONTNEED)
    if encoded.tail:
        yield encoded.tail


def _digest(pieces: Iterator[bytes | memoryview]) -> str:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _last_look(written: bytes, item: Readable, *, study_uid: str) -> None:
    """Search what will be written for the original UIDs: independent of the rules that should have replaced them.

    UIDs only: they are long enough never to be found by chance, and one that is found means that a rule is broken.

    Raises
    ------
    IdentifierLeak
        The instance is set aside, and nothing of its batch is published.
    """
    for keyword, uid in (
        ("StudyInstanceUID", study_uid),
        ("SeriesInstanceUID", item.series_uid),
        ("SOPInstanceUID", item.sop_uid),
    ):
        if len(uid) >= _LONG_UID and _stands_in(written, uid.encode("ascii", "replace")):
            raise IdentifierLeak(where="the header of an instance", rule=keyword)


def _stands_in(written: bytes, uid: bytes) -> bool:
    """Whether a UID stands there as a whole: the beginning of a longer one is another UID."""
    return uid in written and re.search(rb"(?<![0-9.])" + re.escape(uid) + rb"(?!\.?[0-9])", written) is not None
