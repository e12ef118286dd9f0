"""`radlake profile`: the de-identification profile, in words that an ethics board can sign."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any

import typer
from pydicom.datadict import dictionary_description, dictionary_keyword, tag_for_keyword
from rich.table import Table

from radlake.cli.tables import plain_table, wide_console
from radlake.config import Settings
from radlake.deidentify.profile import OPTION_CODES, Action, Profile, Rule, load_profile
from radlake.deidentify.reference_table import reference_rows, table_edition
from radlake.errors import QueryInvalid

app = typer.Typer(help="Read the de-identification profile that an ethics board signed.", no_args_is_help=True)

_IN_WORDS = {
    Action.KEEP: ("保留（含身份信息则删去）", "kept, unless it names somebody; each item of a sequence is treated"),
    Action.REMOVE: ("删除", "removed"),
    Action.EMPTY: ("置空", "emptied"),
    Action.DUMMY: ("以占位值替换", "replaced by a dummy"),
    Action.UID: ("以密钥生成的 UID 替换", "replaced by a keyed UID"),
    Action.SHIFT: ("按人平移", "shifted by the person's constant"),
    Action.CLEAN: ("只留词表词语", "reduced to vocabulary words"),
    Action.AGE: ("90 岁以上记为 90 岁", "90 for all above 90"),
    Action.PATIENT: ("以患者假名替换", "replaced by the person's pseudonym"),
    Action.PSEUDONYM: ("以假名替换", "replaced by a pseudonym of the value"),
    Action.CODE: ("以“已删除”编码替换", "replaced by a code that says removed"),
}
_MAY_FAIL = (Action.KEEP, Action.CLEAN, Action.SHIFT, Action.AGE)
_PRIVATE = {
    "zh": "私有属性（组号为奇数）一律删除，方案列明的安全属性除外。",
    "en": "Private attributes (odd group) are removed, except those that the profile lists as safe.",
}
_UNKNOWN = {"zh": "标准未收录的属性一律删除。", "en": "An attribute that the standard does not know is removed."}
_GRAPHICS = {"zh": "叠加层与曲线整组删除。", "en": "Overlays and curves are removed as a group."}

NameArgument = Annotated[str, typer.Argument(help="Name in schemas/profiles/ or path; the setting when omitted.")]


@app.command()
def show(
    ctx: typer.Context,
    name: NameArgument = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every attribute, not only the decisions of the profile.")
    ] = False,
) -> None:
    """Show a profile: its options, its decisions and their reasons."""
    profile = _profile(ctx, name)
    console = wide_console()
    console.print(f"[bold]{profile.label}[/]  {profile.title['zh']} / {profile.title['en']}")
    for language in ("zh", "en"):
        if text := profile.about.get(language):
            console.print(text.strip())
    console.print(f"{table_edition()}, {len(reference_rows())} rows\n")

    table = plain_table("option", "code")
    for option, code in OPTION_CODES.items():
        table.add_row(option, code if option in profile.options else "-")
    console.print(table)

    rules = sorted(profile.rules.values(), key=lambda rule: rule.tag)
    counts = Counter(rule.action for rule in rules)
    table = plain_table("action", "attributes", "做法", "what happens")
    for action in Action:
        if counts[action]:
            table.add_row(action, f"{counts[action]:,}", *_IN_WORDS[action])
    console.print("", table)
    for rule_in_words in (_PRIVATE, _GRAPHICS, _UNKNOWN):
        console.print(f"{rule_in_words['zh']} {rule_in_words['en']}")
    for safe in profile.safe_private.values():
        console.print(f"({safe.group:04X},xx{safe.element:02X}) {safe.creator}: safe private attribute")

    table = plain_table("tag", "attribute", "table", "action", "from", "why")
    for rule in rules:
        if every or rule.why:
            table.add_row(*_cells(rule), _both(rule.why))
    console.print("", table)


@app.command()
def diff(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(help="Name or path.")],
    new: NameArgument = "",
) -> None:
    """Show what changes from one profile to another, attribute by attribute."""
    before, after = load_profile(old), _profile(ctx, new)
    console = wide_console()
    console.print(f"[bold]{before.label} → {after.label}[/]")
    for sign, options in (
        ("-", set(before.options) - set(after.options)),
        ("+", set(after.options) - set(before.options)),
    ):
        for option in sorted(options):
            console.print(f"{sign} {option}")
    table = plain_table("tag", "attribute", "table", before.label, after.label, "why")
    for tag in sorted(set(before.rules) | set(after.rules)):
        ours, theirs = before.rules[tag], after.rules[tag]
        if _treatment(ours) != _treatment(theirs):
            number, keyword, code, *_ = _cells(theirs)
            table.add_row(number, keyword, code, _in_short(ours), _in_short(theirs), _both(theirs.why))
    for key in sorted(set(before.safe_private) ^ set(after.safe_private)):
        console.print(f"{'+' if key in after.safe_private else '-'} safe private {key}")
    console.print(table if table.row_count else "No attribute is treated differently.")


@app.command()
def explain(
    ctx: typer.Context,
    attribute: Annotated[str, typer.Argument(metavar="TAG", help="PatientName, 00100010 or (0010,0010).")],
    profile: Annotated[str, typer.Option(help="Name or path; the setting when omitted.")] = "",
) -> None:
    """Tell what happens to one attribute, and why."""
    chosen = _profile(ctx, profile)
    tag = _tag_of(attribute)
    console = wide_console()
    rule = chosen.rules.get(tag)
    if rule is None:
        words = _PRIVATE if tag >> 16 & 1 else _GRAPHICS if tag >> 24 in (0x50, 0x60) else _UNKNOWN
        console.print(f"({tag >> 16:04X},{tag & 0xFFFF:04X})\n{words['zh']}\n{words['en']}")
        return
    number, keyword, code, _, origin = _cells(rule)
    zh, en = _IN_WORDS[rule.action]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("attribute", f"{number} {keyword}: {_description(tag)} ({rule.vr or '?'})")
    table.add_row(f"{table_edition().split(' - ')[0]} Table E.1-1", code or "not listed")
    row = next((row for row in reference_rows() if row.number == tag), None)
    for option, action in (row.options if row else {}).items():
        table.add_row(f"  {option}", f"{action}{'' if option in chosen.options else ' (not chosen)'}")
    table.add_row("decided by", origin)
    table.add_row(chosen.label, f"{rule.action}: {zh} / {en}")
    if rule.values:
        table.add_row("  only", ", ".join(sorted(rule.values)))
    if rule.terms:
        table.add_row("  only", f"terms of the vocabulary {rule.terms}")
    if rule.otherwise is not rule.action and rule.action in _MAY_FAIL:
        table.add_row("  otherwise", f"{rule.otherwise}: {' / '.join(_IN_WORDS[rule.otherwise])}")
    if rule.action is Action.DUMMY or (rule.otherwise is Action.DUMMY and rule.action in _MAY_FAIL):
        table.add_row("  dummy", rule.dummy)
    if rule.why:
        table.add_row("why", _both(rule.why))
    console.print(table)


def _profile(ctx: typer.Context, name: str) -> Profile:
    settings: Settings = ctx.obj
    return load_profile(name or settings.profile)


def _cells(rule: Rule) -> tuple[str, str, str, str, str]:
    return (
        f"({rule.tag >> 16:04X},{rule.tag & 0xFFFF:04X})",
        _keyword(rule.tag),
        rule.code,
        _in_short(rule),
        rule.origin,
    )


def _in_short(rule: Rule) -> str:
    return f"{rule.action} ({', '.join(sorted(rule.values))})" if rule.values else str(rule.action)


def _treatment(rule: Rule) -> tuple[Any, ...]:
    return rule.action, rule.otherwise, rule.dummy, rule.values, rule.terms


def _both(why: Any) -> str:
    return " ".join(why[language] for language in ("zh", "en") if language in why)


def _keyword(tag: int) -> str:
    try:
        return dictionary_keyword(tag)
    except KeyError:  # younger than pydicom's dictionary
        return next((row.keyword for row in reference_rows() if row.number == tag), "")


def _description(tag: int) -> str:
    try:
        return dictionary_description(tag)
    except KeyError:
        return "not in the dictionary of pydicom"


def _tag_of(text: str) -> int:
    digits = re.sub(r"[(), ]", "", text)
    if re.fullmatch(r"[0-9A-Fa-f]{8}", digits):
        return int(digits, 16)
    tag = tag_for_keyword(text) or next((row.number for row in reference_rows() if row.keyword == text), None)
    if tag is None:
        raise QueryInvalid(reason=f"{text} is neither a tag nor the keyword of an attribute")
    return tag
