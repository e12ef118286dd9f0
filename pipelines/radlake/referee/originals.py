"""What the originals tell: identifiers by study, and which file is the original of which object."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from radlake.errors import SourceMissing
from radlake.referee.identifiers import Identifier, identifiers_of
from radlake.referee.instance import Instance, Unreadable, read

__all__ = ["Originals", "fingerprint"]

_STUDY_UID, _SOP_UID = 0x0020000D, 0x00080018
_MIN_PIXELS = 64  # bytes; fewer are equal by chance


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an original lies: a file, or a member of an archive."""

    path: Path
    member: str = ""

    def read(self) -> bytes:
        if not self.member:
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)


@dataclass
class Originals:
    """The originals of a verification. Nothing here is ever printed.

    Attributes
    ----------
    identifiers : dict of str to set of Identifier
        By original Study Instance UID.
    studies : dict of str to set of str
        Original SOP Instance UIDs by study.
    n_files, n_unreadable : int
        Files that were read, and files that are no DICOM or that pydicom cannot read.
    """

    identifiers: dict[str, set[Identifier]] = field(default_factory=lambda: defaultdict(set))
    studies: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    n_files: int = 0
    n_unreadable: int = 0
    _by_name: dict[str, list[tuple[_Place, str]]] = field(default_factory=lambda: defaultdict(list))
    _by_fingerprint: dict[str, list[tuple[_Place, str]]] = field(default_factory=lambda: defaultdict(list))
    _by_digest: dict[str, tuple[_Place, str]] = field(default_factory=dict)
    _by_uids: dict[tuple[str, str], list[tuple[_Place, str]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def from_paths(cls, paths: Iterable[Path]) -> Originals:
        """Read every DICOM file below the paths, also those in ZIP archives.

        Raises
        ------
        SourceMissing
        """
        originals = cls()
        for root in paths:
            if not root.exists():
                raise SourceMissing(path=str(root))
            for place, name in _places(root):
                originals._take(place, name)
        return originals

    def _take(self, place: _Place, name: str) -> None:
        data = place.read()
        self.n_files += 1
        try:
            instance = read(data)
        except Unreadable:
            self.n_unreadable += 1
            return
        study = self.add(instance)
        self._by_name[name].append((place, study))
        self._by_uids[study, instance.text(_SOP_UID)].append((place, study))
        self._by_digest[xxhash.xxh3_128_hexdigest(data)] = (place, study)
        if mark := fingerprint(instance):
            self._by_fingerprint[mark].append((place, study))

    def add(self, instance: Instance) -> str:
        """Take what one file tells; returns its study."""
        study = instance.text(_STUDY_UID)
        self.identifiers[study] |= identifiers_of(instance)
        self.studies[study].add(instance.text(_SOP_UID))
        return study

    def of_name(self, name: str) -> tuple[bytes, str] | None:
        """(bytes, study) of the one original at the same place below its root, with or without its suffix."""
        found = self._by_name.get(name) or self._by_name.get(name.removesuffix(".dcm")) or []
        return (found[0][0].read(), found[0][1]) if len(found) == 1 else None

    def of_pixels(self, instance: Instance) -> tuple[bytes, str] | None:
        """(bytes, study) of the one original with the same pixels."""
        found = self._by_fingerprint.get(fingerprint(instance), [])
        return (found[0][0].read(), found[0][1]) if len(found) == 1 else None

    def of_digest(self, digest: str) -> tuple[bytes, str] | None:
        """(bytes, study) of the original whose bytes have this XXH3-128, as the ledger remembers them."""
        found = self._by_digest.get(digest)
        return (found[0].read(), found[1]) if found else None

    def of_uids(self, study_uid: str, sop_uid: str) -> tuple[bytes, str] | None:
        """(bytes, study) of the one original with these UIDs."""
        found = self._by_uids.get((study_uid, sop_uid), [])
        return (found[0][0].read(), found[0][1]) if len(found) == 1 else None


def fingerprint(instance: Instance) -> str:
    """Digest of the pixels, by which an object finds its original when nothing else does; empty without pixels."""
    layout = instance.layout
    if layout is None or layout.pixels[1] - layout.pixels[0] < _MIN_PIXELS:
        return ""
    pixels = layout.data[slice(*layout.pixels)]
    return xxhash.xxh3_128_hexdigest(pixels.rstrip(b"\0")) if pixels.strip(b"\0") else ""


def _places(root: Path) -> Iterator[tuple[_Place, str]]:
    paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    for path in paths:
        name = path.name if path == root else path.relative_to(root).as_posix()
        if not zipfile.is_zipfile(path):
            yield _Place(path), name
            continue
        with zipfile.ZipFile(path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
        for member in members:
            yield _Place(path, member), member
