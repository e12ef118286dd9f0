"""`radlake profile`: the de-identification profile, in words that an ethics board can sign."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table

from radlake.cli.profile_words import (
    ACTIONS,
    Language,
    description_of,
    example_of,
    fallback_of,
    in_language,
    keyword_of,
    meaning_of,
    tag_of,
    words_for_missing_rule,
)
from radlake.cli.tables import plain_table, wide_console
from radlake.config import Settings
from radlake.deidentify.profile import OPTION_CODES, Action, Profile, Rule, read_profile
from radlake.deidentify.reference_table import reference_rows, table_edition

app = typer.Typer(help="Read the de-identification profile that an ethics board signed.", no_args_is_help=True)


NameArgument = Annotated[str, typer.Argument(help="Name in schemas/profiles/ or path; the setting when omitted.")]
LanguageOption = Annotated[Language, typer.Option("--lang", help="Language of the words.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]


@app.command()
def show(
    ctx: typer.Context,
    name: NameArgument = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every attribute, not only the decisions of the profile.")
    ] = False,
    language: LanguageOption = Language.BOTH,
    as_json: JsonOption = False,
) -> None:
    """Show a profile: its options, its decisions and their reasons."""
    profile = _profile(ctx, name)
    rules = [rule for _, rule in sorted(profile.rules.items()) if every or rule.why]
    if as_json:
        _print_json(_head(profile) | {"attributes": [_facts(rule) for rule in rules]})
        return
    console = wide_console()
    console.print(f"[bold]{profile.label}[/]  {in_language(profile.title, language, ' / ')}")
    console.print(in_language({key: text.strip() for key, text in profile.about.items()}, language, "\n"))
    console.print(f"{table_edition()}, {len(reference_rows())} rows\n")

    table = plain_table("option", "code", "meaning")
    for option in OPTION_CODES:
        code = OPTION_CODES[option] if option in profile.options else "-"
        table.add_row(option, code, meaning_of(option, language))
    console.print(table)

    counts = Counter(rule.action for rule in profile.rules.values())
    table = plain_table("action", "attributes", "what happens")
    for action in Action:
        if counts[action]:
            table.add_row(action, f"{counts[action]:,}", in_language(ACTIONS[action], language, " / "))
    console.print("", table)
    table = plain_table("document", "what happens")
    for kind, policy in profile.documents.items():
        table.add_row(kind, policy)
    console.print("", table)
    for tag in (0x00090000, 0x60000000, 0x0008FFFF):
        console.print(in_language(words_for_missing_rule(tag), language, " "))
    if profile.safe_private:
        table = plain_table("safe private", "creator", "vr", "meaning")
        for safe in profile.safe_private.values():
            table.add_row(f"({safe.group:04X},xx{safe.element:02X})", safe.creator, safe.vr, safe.meaning)
        console.print("", table)

    table = plain_table("tag", "attribute", "table", "action", "from", "why")
    for rule in rules:
        table.add_row(*_cells(rule), in_language(rule.why, language, " "))
    console.print("", table)


@app.command()
def diff(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(help="Name or path.")],
    new: NameArgument = "",
    language: LanguageOption = Language.BOTH,
    as_json: JsonOption = False,
) -> None:
    """Show what changes from one profile to another, attribute by attribute, and why."""
    before, after = read_profile(old), _profile(ctx, new)
    changed = [
        (ours, theirs)
        for tag, ours in sorted(before.rules.items())
        if _treatment(ours) != _treatment(theirs := after.rules[tag])
    ]
    gone, come = set(before.options) - set(after.options), set(after.options) - set(before.options)
    private = sorted(set(before.safe_private) ^ set(after.safe_private))
    if as_json:
        _print_json(
            {
                "before": before.label,
                "after": after.label,
                "options": {"removed": sorted(gone), "added": sorted(come)},
                "attributes": [{"before": _facts(ours), "after": _facts(theirs)} for ours, theirs in changed],
                "safe_private": [f"({group:04X},xx{element:02X}) {creator}" for group, creator, element in private],
            }
        )
        return
    console = wide_console()
    console.print(f"[bold]{before.label} → {after.label}[/]")
    for sign, options in (("-", gone), ("+", come)):
        for option in sorted(options):
            console.print(f"{sign} {option}: {meaning_of(option, language)}")
    for kind, policy in after.documents.items():
        if before.documents.get(kind) != policy:
            console.print(f"document {kind}: {before.documents.get(kind)} → {policy}")
    for group, creator, element in private:
        sign = "+" if (group, creator, element) in after.safe_private else "-"
        console.print(f"{sign} safe private ({group:04X},xx{element:02X}) {creator}")
    table = plain_table("tag", "attribute", "table", before.label, after.label, "why")
    for ours, theirs in changed:
        number, keyword, code, *_ = _cells(theirs)
        why = in_language(theirs.why, language, " ") or f"{theirs.origin}: {meaning_of(theirs.origin, language)}"
        table.add_row(number, keyword, code, _in_short(ours), _in_short(theirs), why)
    console.print(table if changed else "No attribute is treated differently.")


@app.command()
def explain(
    ctx: typer.Context,
    attribute: Annotated[
        str,
        typer.Argument(metavar="TAG", help="PatientName, 00100010, (0010,0010) or, with --creator, (0019,xx0C)."),
    ],
    profile: Annotated[str, typer.Option(help="Name or path; the setting when omitted.")] = "",
    creator: Annotated[str, typer.Option(help="Private creator of a private attribute.")] = "",
    language: LanguageOption = Language.BOTH,
    as_json: JsonOption = False,
) -> None:
    """Tell what happens to one attribute, why, and show it with an example."""
    chosen = _profile(ctx, profile)
    tag = tag_of(attribute)
    rule = chosen.rules.get(tag)
    safe = chosen.safe_private.get((tag >> 16, creator, tag & 0xFF))
    if as_json:
        facts = _facts(rule) if rule else {"tag": f"{tag:08X}", "action": "keep" if safe else "remove"}
        _print_json(facts | {"profile": chosen.label, "example": example_of(chosen, tag, creator=creator)})
        return
    console = wide_console()
    table = Table(box=None, show_header=False, pad_edge=False)
    edition = table_edition().split(" - ")[0]
    if rule is None:
        console.print(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {creator}".rstrip())
        words = words_for_missing_rule(tag) if safe is None else ACTIONS[Action.KEEP]
        table.add_row(chosen.label, in_language(words, language, "\n"))
        table.add_row("decided by", f"safe_private: {safe.meaning} ({safe.vr})" if safe else "")
    else:
        number, keyword, code, _, origin = _cells(rule)
        table.add_row("attribute", f"{number} {keyword}: {description_of(tag)} ({rule.vr or '?'})")
        table.add_row(f"{edition} Table E.1-1", code or "not listed")
        row = next((row for row in reference_rows() if row.number == tag), None)
        for option, action in (row.options if row else {}).items():
            table.add_row(f"  {option}", f"{action}{'' if option in chosen.options else ' (not chosen)'}")
        table.add_row("decided by", f"{origin}: {meaning_of(origin, language)}".removesuffix(": "))
        table.add_row(chosen.label, f"{rule.action}: {in_language(ACTIONS[rule.action], language, ' / ')}")
        if rule.values:
            table.add_row("  only", ", ".join(sorted(rule.values)))
        if rule.terms:
            table.add_row("  only", f"terms of the vocabulary {rule.terms}")
        if fallback := fallback_of(rule, language):
            table.add_row("  otherwise", fallback)
        if rule.why:
            table.add_row("why", in_language(rule.why, language, " "))
    if example := example_of(chosen, tag, creator=creator):
        table.add_row("example", f"{example['before']}  →  {example['after']}")
    console.print(table)


def _profile(ctx: typer.Context, name: str) -> Profile:
    settings: Settings = ctx.obj
    return read_profile(name or settings.profile)


def _print_json(facts: dict[str, Any]) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))


def _head(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "version": profile.version,
        "title": dict(profile.title),
        "options": {option: OPTION_CODES[option] for option in profile.options},
        "documents": dict(profile.documents),
        "edition": table_edition(),
    }


def _facts(rule: Rule) -> dict[str, Any]:
    return {
        "tag": f"{rule.tag:08X}",
        "keyword": keyword_of(rule.tag),
        "vr": rule.vr,
        "table": rule.code,
        "action": str(rule.action),
        "otherwise": str(rule.otherwise),
        "values": sorted(rule.values),
        "terms": rule.terms,
        "origin": rule.origin,
        "why": dict(rule.why),
    }


def _cells(rule: Rule) -> tuple[str, str, str, str, str]:
    number = f"({rule.tag >> 16:04X},{rule.tag & 0xFFFF:04X})"
    return number, keyword_of(rule.tag), rule.code, _in_short(rule), rule.origin


def _in_short(rule: Rule) -> str:
    only = ", ".join(sorted(rule.values)) or rule.terms
    return f"{rule.action} ({only})" if only else str(rule.action)


def _treatment(rule: Rule) -> tuple[Any, ...]:
    return rule.action, rule.otherwise, rule.dummy, rule.values, rule.terms
