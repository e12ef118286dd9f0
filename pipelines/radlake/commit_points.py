"""Commit points: every place after which a kill leaves something half done has a name.

`reached("study.begun")` stands right after the step that its name tells. It does nothing until somebody listens: a test
that kills the process there, or a tracer. Whoever adds a place adds its name to `POINTS` and a test that comes by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

__all__ = ["POINTS", "listening", "reached"]

POINTS: Mapping[str, str] = MappingProxyType(
    {
        # net and harvest
        "study.discovered": "A study that a node or folder lists is in the ledger.",
        "study.begun": "A study is open for an attempt, with what is expected of it.",
        "instance.written": "All bytes of a received instance are on disk, under no name yet.",
        "instance.named": "A received instance bears its name, and the folder may still forget it.",
        "instance.durable": "A received instance stays, and its sender may be told so.",
        "archive.unpacked": "A member of a ZIP archive lies unpacked in scratch.",
        "spool.emptied": "The received files of a settled study are gone from the spool.",
        # receive
        "push.ingested": "Studies that were pushed are settled, and their received files still lie in the spool.",
        "push.told": "What a hospital told of a study is kept, and it does not know that yet.",
        "push.commitment_asked": "A request for storage commitment is kept, and who asked does not know that yet.",
        "push.commitment_told": "Who asked for storage commitment has the result, and the request is still kept.",
        # lake: objects and quarantine
        "object.built": "A series object is whole in scratch and not in the store.",
        "object.stored": "A series object is in the store and no row names it.",
        "object.deleted": "A series object that no row needs is gone, and the files that named it are not.",
        "quarantine.copied": "The bytes of a refused object are in quarantine and not in the ledger.",
        "quarantine.entered": "A refused object is in the ledger's quarantine and in no settlement.",
        "quarantine.released": "Objects that were stored after all are marked so in the quarantine.",
        # lake: tables
        "table.created": "The log of a table exists and is empty.",
        "table.written": "Parquet files of a commit are in place, and no log names them.",
        "table.committed": "A version of a table is in its log.",
        "table.pinned": "Versions of tables are kept under a name.",
        "table.unpinned": "A name that kept versions of tables is gone.",
        "index.recent_exams": "The index of recent exams has its name; until then the one before has.",
        "table.vacuumed": "A Parquet file that nobody needs is deleted, and others are not yet.",
        # ingest: one batch
        "batch.written": "The files of a batch lie in a folder that is not staged.",
        "batch.staged": "A batch is staged: from here on it is committed whatever happens.",
        "batch.dicom.instance": "The instances of a batch are in the lake.",
        "batch.dicom.series": "The series of a batch are in the lake.",
        "batch.dicom.study": "The studies of a batch are in the lake.",
        "batch.ops.quality": "The verdicts of a batch's quality gate are in the lake.",
        "batch.settled": "The ledger knows the studies of a batch as settled, with their sealed records.",
        "history.kept": "The file beside the ledger names the newest event of a hospital.",
        "batch.unstaged": "The staged folder of a batch is gone.",
        # ingest: what a run tells of itself
        "ops.ref.hospital": "The hospital of a run is published.",
        "ops.ops.completeness": "The hospital's states are published.",
        "ops.ops.quarantine": "The hospital's quarantine counts are published.",
        "ops.ops.lag": "How far behind hospitals are is published.",
        "ops.ops.harvest_run": "The run itself is published.",
        # backfill
        "backfill.planned": "The ledger knows every listed study, and the plan is kept; its coverage is not published.",
        "backfill.window_begun": "An attempt at a window is entered, and nothing of it is fetched.",
        "backfill.window_ended": "A window is entered as done, or as open still.",
        # certificates
        "certificate.entered": "A certificate is in the ledger's database, and has no file.",
        "certificate.written": "A certificate has its file, and is not published.",
        "certificate.published": "A certificate is published in ops.certificate.",
        # recompression
        "recompress.proven": "A series object encoded anew is proven, and the rows name the old one.",
        # residency
        "residency.cached": "A fetched object is proven and in the cache.",
        "residency.reopened": "The ledger knows what a hospital changed or lost.",
        # expiry
        "expiry.buried": "An expired study has a tombstone, and everything else of it is still there.",
        "expiry.withdrawn": "The ledger knows expired studies as withdrawn, and the lake has them.",
        "expiry.told": "The lake tells of tombstones whose studies it has.",
        "expiry.dicom.study": "The rows of expired studies are gone from dicom.study.",
        "expiry.dicom.series": "The rows of expired studies are gone from dicom.series.",
        "expiry.dicom.instance": "No row names the objects of expired studies.",
        "expiry.object": "A series object of an expired study is gone, and others are not.",
        "expiry.objects": "All objects of expired studies are gone, and their tombstones open.",
        "expiry.finished": "Tombstones are closed, and the vault's records gone.",
        # withdrawal
        "withdrawal.begun": "A withdrawal is entered, and nothing of it is done: from here on it is carried out.",
        "withdrawal.released": "A file of a release that is ended is gone, and others are not.",
        "withdrawal.erased": "The ledger knows a study of a withdrawal by its keyed name, and the lake has it.",
        "purge.committed": "Rows are gone from the latest version of a table, and older ones have them.",
        "purge.reissued": "A pin tells that its versions are issued again, and they are not yet.",
        "purge.logged": "The log of a table tells the sizes of files that are not written again yet.",
        "purge.rewritten": "A file of an older version is written again, and others are not.",
        "withdrawal.purged": "Rows are gone from all versions of a table, and other tables have them.",
        "withdrawal.object": "A series object of a withdrawal is gone, and others are not.",
        "withdrawal.cohort": "A cohort is built again without who was withdrawn.",
        "withdrawal.shredded": "The vault and the tables beside it have nothing of a withdrawal.",
        "withdrawal.forgotten": "Quarantine, spool, offsets and the index of recent exams have nothing of it.",
        "withdrawal.removed": "Everything of a withdrawal is gone but what is computed from the tables.",
        "withdrawal.built": "Statistics are computed again without who was withdrawn.",
        "withdrawal.tidied": "The files of the databases have no deleted rows.",
        "withdrawal.written": "The report of a withdrawal has its file, and the withdrawal is open.",
        "withdrawal.finished": "The report is entered, and nothing tells whom it was about.",
        # reviews
        "review.recorded": "A reviewer's decisions are in the ledger.",
        "review.undone": "A reviewer's decisions are undone.",
        "review.taken_up": "Decisions are taken up by a replay and cannot be undone.",
        # linkage
        "linkage.decided": "A revision of the person links is in the ledger, and its map is not published.",
        "linkage.published": "The map of a revision is in the lake, and its quality is not.",
        # cohorts
        "cohort.written": "The members of a cohort lie in a folder that has no name yet.",
        "cohort.built": "A cohort has its name, and the versions that it was built from are pinned.",
        "release.object": "A series object of a release is in the store, and its batch is not told of yet.",
        "release.batch": "A batch of series objects of a release is entered in its work folder.",
        "release.candidate": "A release waits for approval, and whoever wants to pull it is told so.",
        "release.entered": "The approval of a release, or its end, is in the ledger, and nobody can see it yet.",
        "release.told": "Who wants to pull a release finds what the ledger says of it.",
        "pull.received": "A chunk of a pulled series is on disk and verified, under no name that anybody reads.",
        "pull.named": "A pulled series bears its name, and others do not yet.",
        "export.written": "An export of a release is whole, under no name that anybody reads.",
        # keys and the vault
        "key.written": "A root key lies in a file of its own, under no name that anybody reads.",
        "key.named": "A root key bears its name.",
        "key.claimed": "The ledger knows the check value of the lake's key, and the lake does not.",
        "key.checked_in": "The lake knows the check value of its key.",
        "vault.version_begun": "A new version of the vault's key is in force, and records have older ones.",
        "vault.resealed": "Some records of the vault are sealed anew.",
        "vault.forgotten": "The database's journal of records sealed with older keys is empty.",
        "audit.entered": "An entry of the audit trail is in the database, and the file beside it names the one before.",
        "audit.kept": "An entry of the audit trail is in the database and in the file beside it.",
    }
)

_listener: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Tell the listener, if there is one, that a commit point is behind us; costs a comparison otherwise.

    Raises
    ------
    KeyError
        If somebody listens and the name is not one of `POINTS`.
    """
    if _listener is not None:
        POINTS[name]
        _listener(name)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Call `listener` with the name of every commit point that this process reaches, in whatever thread."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
