"""One withdrawal from its beginning to its report; what a kill left open goes on where it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.deidentify import KeyRing
from radlake.errors import LedgerBusy, PermanentError
from radlake.ingest.batch import roll_forward
from radlake.ingest.build import build_alone
from radlake.ingest.certify import certify
from radlake.ingest.duplicates import build_repeats_alone
from radlake.lake import Lake
from radlake.lake.certificate_store import documents
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.reminders import JOURNAL, ReminderJournal
from radlake.lake.store import make_folder, write_whole
from radlake.lake.withdrawals import LAKE, LakeBusy, Withdrawal, WithdrawalRows, withdrawn_digest
from radlake.machine import shanghai_day
from radlake.stats.duplicates.sequence import TABLE as SEQUENCE
from radlake.vault.lake_key import lake_keys
from radlake.vault.lookup import LookupRefused, problem_of
from radlake.vault.trail import AuditTrail, Reason
from radlake.withdrawal.plan import Plan, found_since, obstacles, plan_withdrawal
from radlake.withdrawal.remove import forget_releases, reminders_of, remove, tidy_databases
from radlake.withdrawal.report import Report, remnants_file, reports, write_report
from radlake.withdrawal.subject import PersonUnclear, Subject, SubjectUnknown, filled
from radlake.withdrawal.verify import Verification, verify

__all__ = ["RemnantsFound", "WithdrawalForbidden", "WithdrawalHeld", "Withdrawn", "asked", "dry_run", "resume",
           "withdraw"]  # fmt: skip

_PATIENCE_SECONDS = 900.0
_POLL_SECONDS = 0.2


class WithdrawalForbidden(PermanentError):
    sentence = "Nothing was withdrawn, because not all of it may be removed now:\n{reasons}"


class WithdrawalHeld(PermanentError):
    sentence = (
        "Withdrawal {number} stays open, because not all of it may be removed any more:\n{reasons}\n"
        "When that has ended, run `radlake withdraw resume`."
    )


class RemnantsFound(PermanentError):
    sentence = (
        "Withdrawal {number} stays open: {n} remnants were found.\n{places}\n"
        "{file} has the places in full. Remove what put them there, then run `radlake withdraw resume`."
    )


@dataclass(frozen=True)
class Withdrawn:
    """What a withdrawal came to.

    Attributes
    ----------
    verification : Verification or None
        None when the subject was withdrawn before, and nothing of it came since.
    called : mapping of str to sequence of str
        By release, the folders of a pull that its holders have to delete. Told once: nothing keeps it.
    """

    report: Report
    verification: Verification | None
    called: Mapping[str, Sequence[str]] = field(default_factory=dict)


def asked(
    settings: Settings,
    ledger: Ledger,
    find: Callable[[Lake, Ledger, KeyRing], Subject],
    *,
    kind: str,
    reason: Reason,
    now: datetime,
    hospital_id: str = "",
    secret: str = "",
) -> Subject:
    """The subject that is found. What is told of one that is not, is in the audit trail before it is told.

    Parameters
    ----------
    secret : str
        By which it is asked for: an identifier that who and why may not tell.

    Raises
    ------
    LookupRefused, SubjectUnknown, PersonUnclear
    """
    keys = lake_keys(settings)
    trail = AuditTrail(ledger, keys, restricted=settings.restricted)
    if problem := problem_of(reason, secret=secret):
        told = Reason("(not told)", "(not told)")
        trail.record("withdraw", reason=told, now=now, kind=kind, hospital_id=hospital_id, outcome="refused")
        raise LookupRefused(reason=problem)
    try:
        return find(Lake.from_settings(settings), ledger, keys)
    except (PersonUnclear, SubjectUnknown) as exc:
        outcome = f"nothing was withdrawn: {type(exc).__name__}"
        trail.record("withdraw", reason=reason, now=now, kind=kind, hospital_id=hospital_id, outcome=outcome)
        raise


def withdraw(settings: Settings, ledger: Ledger, subject: Subject, *, reason: Reason, now: datetime) -> Withdrawn:
    """Remove everything of a subject, search what is left, and sign a report. Of a subject without anything left, the
    report of before.

    Raises
    ------
    WithdrawalForbidden
        If a legal hold or a lock of the store forbids to remove a part: nothing is removed then.
    LookupRefused
        If it is not told who asks and why, or that has an identifier in it.
    LedgerBusy, LakeBusy
        If a hospital is harvested, or the lake built, for too long: the withdrawal stays open, to be resumed.
    WithdrawalHeld
        If one was placed since it began: what is left stays, until it is resumed.
    RemnantsFound
    """
    keys, lake, rows = lake_keys(settings), Lake.from_settings(settings), WithdrawalRows(ledger)
    _refuse_told(reason, subject)
    for row in rows.all():
        if row.subject == subject.digest and row.finished_at is None:
            return _carry_out(settings, ledger, keys, row, now=now)
    subject = _with_reminders(settings, keys, subject)
    plan = plan_withdrawal(lake, ledger, keys, subject)
    if not (subject.studies or subject.quarantine_ids):
        for report in reversed(reports(ledger)):
            if report.content["subject"] == subject.digest:
                return Withdrawn(report, None)
    if plan.blocked:
        raise WithdrawalForbidden(reasons="\n".join(f"- {one}" for one in plan.blocked))
    told = {name: getattr(plan, name) for name in ("cohorts", "release_names", "called")}
    more = {**told, "by": reason.by, "why": reason.why, "removed": plan.removed}
    subject = replace(subject, more=more)
    trail = AuditTrail(ledger, keys, restricted=settings.restricted)
    hospitals = ", ".join(subject.hospitals)
    trail.record("withdraw", reason=reason, now=now, kind=subject.kind, hospital_id=hospitals,
                 outcome=f"begins: {len(subject.studies)} studies")  # fmt: skip
    persons = [withdrawn_digest(keys.withdrawal_mac, key) for key in subject.patient_keys]
    row = rows.begin(subject=subject.digest, sealed=subject.sealed(keys), persons=persons, now=now)
    reached("withdrawal.begun")
    return _carry_out(settings, ledger, keys, row, now=now)


def resume(settings: Settings, ledger: Ledger, *, now: datetime) -> list[Withdrawn]:
    """Finish every withdrawal that is open."""
    keys = lake_keys(settings)
    return [
        _carry_out(settings, ledger, keys, row, now=now)
        for row in WithdrawalRows(ledger).all()
        if row.finished_at is None
    ]


def dry_run(settings: Settings, ledger: Ledger, subject: Subject, *, reason: Reason, now: datetime) -> Plan:
    """What `withdraw` would remove; entered in the audit trail, as a look-up is."""
    keys = lake_keys(settings)
    _refuse_told(reason, subject)
    trail = AuditTrail(ledger, keys, restricted=settings.restricted)
    trail.record("withdraw", reason=reason, now=now, kind=subject.kind, hospital_id=", ".join(subject.hospitals),
                 outcome=f"dry run: {len(subject.studies)} studies")  # fmt: skip
    return plan_withdrawal(Lake.from_settings(settings), ledger, keys, _with_reminders(settings, keys, subject))


def _refuse_told(reason: Reason, subject: Subject) -> None:
    for secret in (*subject.identifiers, *subject.uids) or ("",):
        if problem := problem_of(reason, secret=secret):
            raise LookupRefused(reason=problem)


def _with_reminders(settings: Settings, keys: KeyRing, subject: Subject) -> Subject:
    ids = reminders_of(settings, subject)
    return replace(subject, reminders=tuple({*subject.reminders, *(keys.pseudo_id("reminder", one) for one in ids)}))


def _carry_out(settings: Settings, ledger: Ledger, keys: KeyRing, row: Withdrawal, *, now: datetime) -> Withdrawn:
    lake = Lake.from_settings(settings)
    name = f"withdrawal-{row.number}"
    why = f"withdrawn: withdrawal {row.number}"
    with _alone(ledger):
        (row,) = (one for one in WithdrawalRows(ledger).all() if one.number == row.number)
        if row.sealed is None:  # another process finished it meanwhile
            return Withdrawn(Report(row.document), None)
        subject = Subject.from_sealed(keys, row.sealed)
        for hospital_id in ledger.hospital_ids():  # a harvest that began before did not know it
            with _held(ledger, [hospital_id]):
                roll_forward(lake, ledger, hospital_id=hospital_id, now=now)
        subject = _with_reminders(settings, keys, filled(lake, ledger, keys, subject))
        subject = found_since(lake, ledger, keys, subject)
        if held := list(obstacles(lake, ledger, subject)):
            raise WithdrawalHeld(number=row.number, reasons="\n".join(f"- {one}" for one in held))
        WithdrawalRows(ledger).keep(row.number, sealed=subject.sealed(keys))
        more = subject.more
        with _held(ledger, subject.hospitals):
            forget_releases(settings, [one["release_id"] for one in more["removed"]["releases"]],
                            by=more["by"], why=why, now=now)  # fmt: skip
            remove(settings, ledger, subject, name=name, why=why, now=now)
        _build_anew(settings, lake, now=now)
        reached("withdrawal.built")
        _certify_anew(settings, ledger, subject.hospitals, now=now)
        tidy_databases(settings, ledger)
        verification = _searched(settings, lake, ledger, row.number, subject)
        report = _report(ledger, keys, row, subject, verification, now=now)
        trail = AuditTrail(ledger, keys, restricted=settings.restricted)
        trail.record("withdrawn", reason=Reason(more["by"], more["why"]), now=now, kind=subject.kind,
                     outcome=f"withdrawal {row.number}: 0 remnants, report {report.digest}")  # fmt: skip
        write_report(settings.restricted, row.number, report)
        WithdrawalRows(ledger).finish(row.number, document=report.document, now=now)
        reached("withdrawal.finished")
        return Withdrawn(report, verification, more.get("called", {}))


def _report(
    ledger: Ledger, keys: KeyRing, row: Withdrawal, subject: Subject, done: Verification, *, now: datetime
) -> Report:
    before = reports(ledger)
    searched = {name: n for name, n in asdict(done).items() if name in ("n_names", "n_short", "n_audit")}
    content = {
        "number": row.number,
        "kind": subject.kind,
        "subject": row.subject,
        "begun_at": row.begun_at.isoformat(),
        "finished_at": now.isoformat(),
        "by": subject.more["by"],
        "why": subject.more["why"],
        "removed": subject.more["removed"],
        "searched": {**searched, **dict(sorted(done.searched.items()))},
        "remnants": 0,
        "previous": before[-1].digest if before else "",
    }
    return Report.sealed(content, keys.withdrawal_mac)


def _searched(settings: Settings, lake: Lake, ledger: Ledger, number: int, subject: Subject) -> Verification:
    """The search of everything that is left. Places may bear a name themselves: they are told in full in a file of the
    restricted zone only, until the next search.

    Raises
    ------
    RemnantsFound
    """
    file = remnants_file(settings.restricted, number)
    file.unlink(missing_ok=True)
    journal = ReminderJournal.existing(settings)
    with closing(journal) if journal else nullcontext():
        others = [(journal.engine, JOURNAL)] if journal else []
        done = verify(lake, ledger, subject, others=others)
    if not done.remnants:
        return done
    make_folder(file.parent)
    write_whole(file, "".join(f"{one.told(one.full)}\n" for one in done.remnants))
    places = "\n".join(f"- {one.told(one.place)}" for one in done.remnants[:20])
    raise RemnantsFound(number=number, n=sum(one.n for one in done.remnants), places=places, file=file)


@contextmanager
def _alone(ledger: Ledger) -> Iterator[None]:
    """The lake without a build: what it read before must not be written after."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with ledger.claim(LAKE, Claim.BUILD) as is_held:
            if is_held:
                yield
                return
        if time.monotonic() > deadline:
            raise LakeBusy
        time.sleep(_POLL_SECONDS)


@contextmanager
def _held(ledger: Ledger, hospital_ids: Sequence[str]) -> Iterator[None]:
    """The harvests of hospitals; one that is under way ends first."""
    with ExitStack() as held:
        for hospital_id in hospital_ids:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            held.enter_context(ledger.claim(hospital_id, Claim.WISH, shared=True))  # a backfill makes way
            while True:
                with ExitStack() as attempt:
                    if attempt.enter_context(ledger.claim(hospital_id)):
                        held.push(attempt.pop_all())
                        break
                if time.monotonic() > deadline:
                    raise LedgerBusy(hospital=hospital_id)
                time.sleep(_POLL_SECONDS)
        yield


def _build_anew(settings: Settings, lake: Lake, *, now: datetime) -> None:
    """Indexes, cubes and statistics without the subject, as far as this lake has them."""
    if not lake.exists("core.exam"):
        return
    layers = None if lake.exists("stats.exam_volume") else ["core"]
    build_alone(settings, now=now, layers=layers)
    if lake.restricted_tables.exists(SEQUENCE):
        build_repeats_alone(settings, now=now)


def _certify_anew(settings: Settings, ledger: Ledger, hospital_ids: Sequence[str], *, now: datetime) -> None:
    """Hospitals that have certificates get one of the ledger as it is now: its studies bear other names."""
    with ledger.reading() as connection:
        certified = [hospital_id for hospital_id in hospital_ids if documents(connection, hospital_id)]
    if certified:
        certify(settings, certified, shanghai_day(now), now)
