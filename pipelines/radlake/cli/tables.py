"""Tables for people that several verbs print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from radlake.ingest import HarvestSummary

__all__ = ["human_bytes", "summary_table"]


def human_bytes(n_bytes: float) -> str:
    """Bytes with a decimal unit: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def summary_table(summaries: Sequence[HarvestSummary]) -> Table:
    """One row per hospital: what was found, stored, set aside and why."""
    table = Table(title="Harvest", padding=(0, 0), collapse_padding=True)
    for name in ("hospital", "via", "studies", "complete", "partial", "aside", "stored", "held", "resent", "bytes"):
        table.add_column(name, justify="left" if name in ("hospital", "via") else "right", no_wrap=True)
    for item in summaries:
        table.add_row(
            item.hospital_id,
            item.retrieve_kind,
            f"{item.studies_found:,}",
            f"{item.studies_complete:,}",
            f"{item.studies_partial:,}",
            f"{item.studies_quarantined:,}",
            f"{item.instances_stored:,}",
            f"{item.instances_quarantined:,}",
            f"{item.instances_duplicate:,}",
            human_bytes(item.stored_bytes),
        )
    reasons: dict[str, int] = {}
    for item in summaries:
        for reason, n in item.quarantine_by_reason.items():
            reasons[reason] = reasons.get(reason, 0) + n
    not_dicom = sum(item.files_not_dicom for item in summaries)
    notes = [f"{reason} {n:,}" for reason, n in sorted(reasons.items(), key=lambda pair: -pair[1])]
    table.caption = "\n".join(
        (["quarantined: " + ", ".join(notes)] if notes else [])
        + ([f"files that are not DICOM: {not_dicom:,}"] if not_dicom else [])
    )
    return table
