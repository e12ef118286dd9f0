"""`radlake linkage`: which pseudonyms are of one person, who decided it, and how well it is known."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer

from radlake.cli._answers import show_table
from radlake.cli.vault import By, Json, Why, opened
from radlake.lake import Lake, duck
from radlake.machine import utc_now
from radlake.vault.trail import Reason

__all__ = ["app", "tell_linkage_rate"]

app = typer.Typer(no_args_is_help=True, help="Link pseudonyms of one person, undo it, and see how well it is known.")

Key = Annotated[str, typer.Argument(metavar="PSEUDONYM", help="patient_key, or Patient ID of an object in the lake.")]
_SHARES = ("linkage_share", "precision_share", "recall_share")


@app.command()
def run(ctx: typer.Context, by: By, why: Why, as_json: Json = False) -> None:
    """Compare the records of all pseudonyms in the vault, and publish which are of one person.

    Numbers prove it by rule; name, sex, date of birth and telephone by a model that is trained on the records. What a
    person decided stays decided. Only pseudonyms are published (core.person_link); no exam is written anew. The first
    run under a policy also measures it on synthetic records, which takes some minutes.
    """
    from radlake.linkage.policy import load_policy
    from radlake.linkage.run import link_all

    with opened(ctx.obj) as vault:
        outcome = link_all(vault, ctx.obj, policy=load_policy(), reason=Reason(by, why), now=utc_now())
    _show(outcome, as_json=as_json)


@app.command()
def show(ctx: typer.Context, pseudonym: Annotated[str, typer.Argument()] = "", as_json: Json = False) -> None:
    """Show the revisions and how well they link; of one pseudonym its person, and every decision about it.

    Nothing identifying is opened.
    """
    from radlake.lake.person_links import PersonLinks
    from radlake.linkage.run import pseudonyms_of

    with opened(ctx.obj) as vault:
        links = PersonLinks(vault.ledger)
        if not pseudonym:
            _show_revisions(links.revisions(), as_json=as_json)
            return
        key = _key(pseudonym)
        mine, history = pseudonyms_of(links, key), links.history([key])
    rows = [
        {"revision": one.revision, "decided_at": one.made_at.isoformat(), "action": pair.action,
         "with": _hex(pair.other_key if pair.patient_key == key else pair.patient_key), "decided_by": pair.decided_by,
         "reason": pair.reason, "probability": round(pair.probability, 6), "by": one.by, "why": one.why}
        for one, pair in history
    ]  # fmt: skip
    if as_json:
        typer.echo(json.dumps({"person": _hex(mine[0]), "pseudonyms": [_hex(k) for k in mine], "history": rows}))
        return
    typer.echo(f"person {_hex(mine[0])}: {', '.join(map(_hex, mine))}")
    if rows:
        show_table([list(map(str, row.values())) for row in rows], header=list(rows[0]))


@app.command()
def merge(ctx: typer.Context, one: Key, other: Key, by: By, why: Why, as_json: Json = False) -> None:
    """Decide that two pseudonyms are of one person; later runs keep it, and `unmerge` undoes it.

    Refused when both have a valid national identity number and it is not the same.
    """
    from radlake.linkage.policy import load_policy
    from radlake.linkage.run import merge

    keys = (_key(one), _key(other))
    with opened(ctx.obj) as vault:
        outcome = merge(vault, ctx.obj, keys, policy=load_policy(), reason=Reason(by, why), now=utc_now())
    _show(outcome, as_json=as_json)


@app.command()
def unmerge(
    ctx: typer.Context,
    one: Key,
    by: By,
    why: Why,
    other: Annotated[str, typer.Argument(metavar="[OTHER]", help="Apart from this one only.")] = "",
    as_json: Json = False,
) -> None:
    """Decide that a pseudonym is of nobody else, or that two are of two persons; later runs keep it.

    Exams are not written anew: whoever asks next counts two persons again.
    """
    from radlake.linkage.policy import load_policy
    from radlake.linkage.run import unmerge

    keys = [_key(text) for text in (one, other) if text]
    with opened(ctx.obj) as vault:
        outcome = unmerge(vault, ctx.obj, keys, policy=load_policy(), reason=Reason(by, why), now=utc_now())
    _show(outcome, as_json=as_json)


@app.command()
def score(
    persons: Annotated[int, typer.Option(min=10, help="Synthetic persons at each level.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same persons.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure precision and recall of the policy on synthetic records with known truth, at three noise levels.

    Needs no lake and changes nothing.
    """
    from radlake.linkage.policy import load_policy
    from radlake.linkage.score import score_policy

    policy = load_policy()
    found = score_policy(policy, today=utc_now().date(), n_persons=persons, seed=seed)
    if as_json:
        typer.echo(json.dumps({"policy": policy.name} | found))
        return
    _show_measures(policy.name, found)


def tell_linkage_rate(lake: Lake) -> None:
    """One line beside numbers that depend on who is one person; to people, not to programs."""
    with duck.connect(lake, tables={"ops.linkage"}) as connection:
        found = connection.execute(
            "SELECT revision, linkage_share FROM ops.linkage WHERE population = 'lake' ORDER BY revision DESC LIMIT 1"
        ).fetchall()
    if found and found[0][1] is not None:
        typer.echo(f"linkage rate {100 * found[0][1]:.1f} % (revision {found[0][0]}; `radlake linkage show`)")
    else:
        typer.echo("nobody was linked beyond the national identity number (`radlake linkage run`)")


def _show(outcome: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(vars(outcome)))
        return
    typer.echo(f"revision {outcome.revision}: {outcome.n_merged:,} merged, {outcome.n_unmerged:,} unmerged")
    for guard, n in sorted(outcome.refused.items()):
        typer.echo(f"  {n:,} refused by the guard {guard}")
    _show_measures(f"revision {outcome.revision}", outcome.measures)


def _show_revisions(revisions: Any, *, as_json: bool) -> None:
    if as_json:
        for one in revisions:
            typer.echo(json.dumps(vars(one) | {"made_at": one.made_at.isoformat()}, ensure_ascii=False))
        return
    if not revisions:
        typer.echo("nobody is linked yet; `radlake linkage run` does it")
        return
    rows = [[str(one.revision), f"{one.made_at:%Y-%m-%d %H:%M}", one.kind, one.policy, one.by, one.why] for one in revisions]  # fmt: skip  # noqa: E501
    show_table(rows, header=["revision", "UTC", "kind", "policy", "by", "why"])
    _show_measures(f"revision {revisions[-1].revision}", revisions[-1].measures)


def _show_measures(title: str, measures: Any) -> None:
    rows = []
    for population, told in measures.items():
        shares = ["-" if told.get(name) is None else f"{told[name]:.4f}" for name in _SHARES]
        rows.append([population, f"{told['n_keys']:,}", f"{told['n_linked_keys']:,}", f"{told['n_persons']:,}", *shares])  # fmt: skip  # noqa: E501
    if rows:
        show_table(rows, header=[title, "pseudonyms", "linked", "persons", "linkage rate", "precision", "recall"])


def _key(text: str) -> int:
    """A pseudonym as people write it: 16 hexadecimal digits, or a number."""
    plain = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{16}", plain):
        return int(plain, 16)
    if re.fullmatch(r"\d{1,19}", plain):
        return int(plain)
    raise typer.BadParameter("give a patient_key or the Patient ID of an object in the lake, never a hospital's number")


def _hex(key: int) -> str:
    return f"{key:016x}"
