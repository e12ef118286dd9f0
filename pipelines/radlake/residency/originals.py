"""Instances of one study as its hospital sends them again, in a folder for as long as they are looked at."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from radlake.harvest import list_folder
from radlake.lake.digests import digest_of_file
from radlake.lake.evidence import StudyEntry
from radlake.net import Hospital
from radlake.residency.asking import Asking
from radlake.residency.catalogue import SeriesObject

__all__ = ["Originals"]


class Originals:
    """What came of a study.

    Parameters
    ----------
    entry : StudyEntry
        What the ledger knows of the study.
    uid_of : callable
        Name in the lake of an original UID.
    scratch : Path
        Folder for temporary files.
    ask : callable
        Begins a conversation with the node; called when one is needed.

    Attributes
    ----------
    trouble : str
        Why the node did not send all.
    """

    def __init__(
        self,
        hospital: Hospital,
        entry: StudyEntry,
        *,
        uid_of: Callable[[str], str],
        scratch: Path,
        ask: Callable[[], Asking],
    ) -> None:
        self._node, self._entry, self._scratch, self._ask = hospital.node, entry, scratch, ask
        self._original = {uid_of(uid): uid for uid in entry.stored}
        self._folder = scratch / f"fetch-{uuid.uuid4().hex}"
        self._asking: Asking | None = None
        self.trouble = ""

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While files are needed; they are gone afterwards."""
        self._folder.mkdir(parents=True)
        try:
            yield
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def uids(self, objects: Sequence[SeriesObject]) -> frozenset[str]:
        """Original SOP Instance UIDs."""
        return frozenset(self._original[uid] for item in objects for uid, _ in item.instances)

    def file(self, uid: str) -> Path:
        return self._folder / f"{uid}.dcm"

    def bring(self, uids: frozenset[str]) -> None:
        """Bring those that are not in the folder yet."""
        wanted = self._absent(uids)
        if not wanted:
            return
        if self._node.kind == "folder":
            self._copy(self._node.path, wanted)
            return
        self._asking = self._asking or self._ask()
        self.trouble = self._asking.retrieve(self._entry.study_uid, into=self._folder, wanted=wanted)

    def missing(self, item: SeriesObject) -> frozenset[str]:
        """Instances that did not come."""
        return self._absent(self.uids([item]))

    def changed(self, item: SeriesObject) -> list[str]:
        """Instances that came with other bytes than those that were ingested."""
        here = sorted(self.uids([item]) - self.missing(item))
        return [uid for uid in here if digest_of_file(self.file(uid)) != self._entry.stored[uid].source_digest]

    def no_longer_listed(self, missing: frozenset[str]) -> frozenset[str]:
        """Which of the missing ones the hospital does not have any more, as far as it tells."""
        if not missing or self._asking is None:  # not asked: a folder that could be listed
            return missing
        listed = self._asking.find_instances(self._entry.study_uid)
        return frozenset() if listed is None else missing - listed

    def _absent(self, uids: frozenset[str]) -> frozenset[str]:
        return frozenset(uid for uid in uids if not self.file(uid).exists())

    def _copy(self, path: Path, wanted: frozenset[str]) -> None:
        """From a folder; of twins the one that was ingested then."""
        with list_folder(path, scratch=self._scratch) as listing:
            for study in listing.studies:
                for file in study.files if study.study_uid == self._entry.study_uid else ():
                    target, known = self.file(file.sop_uid), self._entry.stored
                    if file.sop_uid in wanted and (
                        not target.exists() or digest_of_file(file.path) == known[file.sop_uid].source_digest
                    ):
                        shutil.copyfile(file.path, target)
