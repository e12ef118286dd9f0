"""Tables of the ledger's database: studies, their history, certificates, quarantine, reviews, pushes, the vault.

`migration` brings a database of an older radlake up to date when it is opened: new tables and columns need no more than
their lines here, but a new column of an old table needs a server default or NULL, and one of `study` an empty one
(see `events.evidence_digest`).
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "BACKFILL_DAY",
    "BACKFILL_HOSPITAL",
    "BACKFILL_HOUR",
    "BACKFILL_WINDOW",
    "CERTIFICATE",
    "COHORT_RELEASE",
    "FACT",
    "HOLD",
    "METADATA",
    "NODE_STATE",
    "PERSON_LINK",
    "PERSON_LINK_REVISION",
    "PUSH_COMMITMENT",
    "PUSH_NOTICE",
    "PUSH_STUDY",
    "QUARANTINE",
    "RETENTION",
    "RETRIEVAL",
    "REVIEW",
    "STUDY",
    "STUDY_EVENT",
    "STUDY_TIME",
    "TOMBSTONE",
    "UNREAD_PERSON",
    "UNREAD_TEXT",
    "VAULT",
    "VAULT_ALIAS",
    "VAULT_AUDIT",
    "WITHDRAWAL",
    "WITHDRAWN_PERSON",
]

METADATA = sa.MetaData()


def _key(*names: str) -> list[sa.Column[str]]:
    """Columns of text that together are the primary key."""
    return [sa.Column(name, sa.String, primary_key=True) for name in names]


STUDY = sa.Table(
    "study",
    METADATA,
    *_key("hospital_id", "study_uid"),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("study_date", sa.Date),
    sa.Column("n_expected", sa.Integer),
    sa.Column("n_stored", sa.Integer, nullable=False, default=0),
    sa.Column("n_set_aside", sa.Integer, nullable=False, default=0),
    sa.Column("expected", sa.LargeBinary),
    sa.Column("stored", sa.LargeBinary),
    sa.Column("set_aside", sa.LargeBinary),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("is_open", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("n_told", sa.Integer),
    sa.Column("trouble", sa.String, nullable=False, default="", server_default=""),
    sa.Column("unverified", sa.String, nullable=False, default="", server_default=""),
    sa.Column("withdrawn", sa.String, nullable=False, default="", server_default=""),
    sa.Column("patient_key", sa.BigInteger),
    sa.Column("lake_study_uid", sa.String, nullable=False, default="", index=True),
    sa.Column("lake_month", sa.Integer),
    sa.Column("discovered_at", sa.DateTime, nullable=False),
    sa.Column("completed_at", sa.DateTime),
    sa.Column("updated_at", sa.DateTime, nullable=False),
    sa.Index("ix_study_date", "hospital_id", "study_date"),  # a backfill counts windows of an archive of years
)
STUDY_EVENT = sa.Table(  # every change of a row of `study`, in one chain per hospital
    "study_event",
    METADATA,
    *_key("hospital_id"),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("study_uid", sa.String, nullable=False),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("evidence", sa.LargeBinary, nullable=False),
    sa.Column("previous_mac", sa.LargeBinary, nullable=False),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    sa.Column("redaction", sa.LargeBinary),
    sa.Index("ix_study_event_study", "hospital_id", "study_uid", "seq"),
)
STUDY_TIME = sa.Table(  # when a study was made, in UTC; beside `study`, as it is no evidence of completeness
    "study_time",
    METADATA,
    *_key("hospital_id", "study_uid"),
    sa.Column("studied_at", sa.DateTime, nullable=False),
)
CERTIFICATE = sa.Table(
    "certificate",
    METADATA,
    *_key("hospital_id"),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("document", sa.String, nullable=False),
)
QUARANTINE = sa.Table(
    "quarantine",
    METADATA,
    *_key("quarantine_id"),
    sa.Column("hospital_id", sa.String, nullable=False, index=True),
    sa.Column("study_uid", sa.String, nullable=False, default=""),
    sa.Column("sop_uid", sa.String, nullable=False, default=""),
    sa.Column("reason", sa.String, nullable=False, index=True),
    sa.Column("detail", sa.String, nullable=False, default=""),
    sa.Column("origin", sa.String, nullable=False, default=""),
    sa.Column("n_bytes", sa.BigInteger, nullable=False),
    sa.Column("held_at", sa.DateTime, nullable=False),
    sa.Column("replayed_at", sa.DateTime),
)
REVIEW = sa.Table(
    "review",
    METADATA,
    sa.Column("review_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("quarantine_id", sa.String, nullable=False, index=True),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("regions", sa.String, nullable=False, default="[]"),  # JSON
    sa.Column("by", sa.String, nullable=False),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("undone_at", sa.DateTime),
    sa.Column("undone_by", sa.String),
    sa.Column("replayed_at", sa.DateTime),
)
PUSH_STUDY = sa.Table(  # studies that were pushed: why nobody vouches that all of it came, empty when somebody does
    "push_study",
    METADATA,
    *_key("hospital_id", "study_uid"),
    sa.Column("unverified", sa.String, nullable=False, index=True),
    sa.Column("active_at", sa.DateTime, nullable=False),
)
PUSH_NOTICE = sa.Table(  # what hospitals told of studies that they push
    "push_notice",
    METADATA,
    *_key("hospital_id", "notice_uid"),
    sa.Column("study_uid", sa.String, nullable=False, index=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("listed", sa.LargeBinary),
    sa.Column("n_told", sa.Integer),
    sa.Column("told_at", sa.DateTime, nullable=False),
)
PUSH_COMMITMENT = sa.Table(  # storage commitment that senders asked for and do not know the result of
    "push_commitment",
    METADATA,
    *_key("hospital_id", "transaction_uid"),
    sa.Column("ae_title", sa.String, nullable=False),
    sa.Column("wanted", sa.LargeBinary, nullable=False),
    sa.Column("n_tried", sa.Integer, nullable=False),
    sa.Column("due_at", sa.DateTime, nullable=False, index=True),
)
RETENTION = sa.Table(  # what the headers of a study told of its class: outpatient|inpatient
    "retention",
    METADATA,
    *_key("hospital_id", "study_uid"),
    sa.Column("evidence", sa.String, nullable=False),
)
RETRIEVAL = sa.Table(  # how long somebody waited for pixels that a hospital keeps
    "retrieval",
    METADATA,
    sa.Column("retrieval_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hospital_id", sa.String, nullable=False),
    sa.Column("asked_at", sa.DateTime, nullable=False, index=True),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("n_objects", sa.Integer, nullable=False),
    sa.Column("n_bytes", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
)
HOLD = sa.Table(
    "hold",
    METADATA,
    sa.Column("hold_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hospital_id", sa.String, nullable=False),
    sa.Column("lake_study_uid", sa.String, nullable=False, index=True),
    sa.Column("placed_at", sa.DateTime, nullable=False),
    sa.Column("placed_by", sa.String, nullable=False),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("released_at", sa.DateTime),
)
TOMBSTONE = sa.Table(
    "tombstone",
    METADATA,
    *_key("hospital_id", "lake_study_uid"),
    sa.Column("lake_month", sa.Integer),
    sa.Column("begun_at", sa.DateTime, nullable=False),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("n_series", sa.Integer, nullable=False),
    sa.Column("n_instances", sa.Integer, nullable=False),
    sa.Column("n_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("finished_at", sa.DateTime),
)
FACT = sa.Table(  # single facts of the whole lake, as the check value of its key
    "fact",
    METADATA,
    *_key("name"),
    sa.Column("value", sa.String, nullable=False),
)
NODE_STATE = sa.Table(  # how each node is treated and why (radlake.harvest.courtesy), so that a restart forgets nothing
    "node_state",
    METADATA,
    *_key("hospital_id"),
    sa.Column("state", sa.String, nullable=False),  # JSON
    sa.Column("updated_at", sa.DateTime, nullable=False),
)
VAULT = sa.Table(
    "vault",
    METADATA,
    *_key("record_id"),
    sa.Column("hospital_id", sa.String, nullable=False),
    sa.Column("lake_study_uid", sa.String, nullable=False, index=True),
    sa.Column("patient_key", sa.BigInteger, nullable=False, index=True),
    sa.Column("exam_pseudo_id", sa.String, nullable=False, index=True),
    sa.Column("key_version", sa.Integer, nullable=False, index=True),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("entered_at", sa.DateTime, nullable=False),
)
VAULT_ALIAS = sa.Table(
    "vault_alias",
    METADATA,
    *_key("alias"),
    sa.Column("patient_key", sa.BigInteger, primary_key=True),
)
VAULT_AUDIT = sa.Table(  # names after FHIR AuditEvent
    "vault_audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("recorded_at", sa.DateTime, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("pseudonym", sa.String, nullable=False),
    sa.Column("hospital_id", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("agent", sa.String, nullable=False),
    sa.Column("os_user", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("previous_mac", sa.String, nullable=False),
    sa.Column("mac", sa.String, nullable=False),
)
BACKFILL_HOSPITAL = sa.Table(  # what a planner knows of a hospital's archive as a whole
    "backfill_hospital",
    METADATA,
    *_key("hospital_id"),
    sa.Column("paused_at", sa.DateTime),
    sa.Column("listed_at", sa.DateTime),
    sa.Column("list_limit", sa.Integer),
    sa.Column("n_undated", sa.Integer),  # None: nobody looked
    sa.Column("undated_trouble", sa.String, nullable=False, default=""),  # why there may be more
)
BACKFILL_DAY = sa.Table(  # study dates that have studies; days without one lie in a window and have no row
    "backfill_day",
    METADATA,
    *_key("hospital_id"),
    sa.Column("study_day", sa.Date, primary_key=True),
    sa.Column("n_studies", sa.Integer, nullable=False),
    sa.Column("n_instances", sa.BigInteger, nullable=False),
    sa.Column("n_open", sa.Integer, nullable=False),
    sa.Column("open_bytes", sa.BigInteger, nullable=False),  # an estimate
    sa.Column("is_doubtful", sa.Boolean, nullable=False),
)
BACKFILL_WINDOW = sa.Table(
    "backfill_window",
    METADATA,
    *_key("hospital_id", "name"),
    sa.Column("first_day", sa.Date),  # None: the studies without a date
    sa.Column("last_day", sa.Date),
    sa.Column("n_studies", sa.Integer, nullable=False),
    sa.Column("n_instances", sa.BigInteger, nullable=False),
    sa.Column("n_open", sa.Integer, nullable=False),  # when it was planned
    sa.Column("open_bytes", sa.BigInteger, nullable=False),  # an estimate
    sa.Column("is_doubtful", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("begun_at", sa.DateTime),
    sa.Column("done_at", sa.DateTime),
    sa.Column("trouble", sa.String, nullable=False, default=""),
)
BACKFILL_HOUR = sa.Table(  # what a backfill did in an hour of UTC, to tell its rate
    "backfill_hour",
    METADATA,
    *_key("hospital_id"),
    sa.Column("hour", sa.DateTime, primary_key=True),
    sa.Column("n_studies", sa.Integer, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)
PERSON_LINK = sa.Table(  # decisions about pairs of pseudonyms: only ever appended to
    "person_link",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.Integer, nullable=False, index=True),
    sa.Column("patient_key", sa.BigInteger, nullable=False),
    sa.Column("other_key", sa.BigInteger, nullable=False, index=True),
    sa.Column("action", sa.String, nullable=False),  # merged|unmerged
    sa.Column("decided_by", sa.String, nullable=False),  # rule|model|person
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("decided_at", sa.DateTime, nullable=False),
    sa.Index("ix_person_link_pair", "patient_key", "other_key", "seq"),
)
PERSON_LINK_REVISION = sa.Table(  # what was decided at once
    "person_link_revision",
    METADATA,
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("made_at", sa.DateTime, nullable=False),
    sa.Column("kind", sa.String, nullable=False),  # run|merge|unmerge
    sa.Column("policy", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("measures", sa.String, nullable=False),  # JSON
)
UNREAD_PERSON = sa.Table(  # who has a piece of a description that no rule reads: a keyed digest, never its text
    "unread_person",
    METADATA,
    *_key("digest"),
    sa.Column("patient_key", sa.BigInteger, primary_key=True, autoincrement=False),
)
UNREAD_TEXT = sa.Table(  # the text of those that many persons have
    "unread_text",
    METADATA,
    *_key("digest"),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("modality_group", sa.String, nullable=False),
)
COHORT_RELEASE = sa.Table(  # what was decided about releases of cohorts; rows are only added
    "cohort_release",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("release_id", sa.String, nullable=False, index=True),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("licence", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("expires_on", sa.Date),
)
WITHDRAWAL = (
    sa.Table(  # what was withdrawn, and the report of it; whose it is lies sealed in it until all of it is gone
        "withdrawal",
        METADATA,
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.String, nullable=False, index=True),  # keyed digest
        sa.Column("begun_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("document", sa.String, nullable=False, default=""),
    )
)
WITHDRAWN_PERSON = sa.Table(  # who may not come back, by keyed digest of patient_key
    "withdrawn_person",
    METADATA,
    *_key("digest"),
    sa.Column("number", sa.Integer, nullable=False),
)
