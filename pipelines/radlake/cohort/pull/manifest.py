"""A manifest: which series of which release are wanted, as a text file that people can read, cut and mail.

    # radlake manifest 1
    # release: chest_ct.v1.0123456789ab.nodules
    # lake: s3://imaging/lake
    # endpoint: https://store.example
    # series: chosen
    1.2.826.0.1.3680043.8.498.1
    1.2.826.0.1.3680043.8.498.2

No series at all means every series, unless it says that some were chosen: then it was cut off. `lake` and `endpoint`
may be left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from radlake.config import StoreSettings
from radlake.errors import ConfigInvalid, SourceMissing

__all__ = ["Manifest", "manifest_from_text", "manifest_of", "manifest_text"]

_FIRST = "# radlake manifest 1"
_FACT = re.compile(r"#\s*(release|lake|endpoint|series)\s*:\s*(\S+)\s*")
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Manifest:
    """What is wanted of a release.

    Attributes
    ----------
    series : tuple of str
        Series Instance UIDs; empty means all.
    lake, endpoint_url : str
        Where the release lies, when the manifest tells it.
    """

    release_id: str
    series: tuple[str, ...] = ()
    lake: str = ""
    endpoint_url: str = ""


def manifest_text(manifest: Manifest) -> str:
    """The file of a manifest, which `manifest_from_text` reads."""
    facts = {"release": manifest.release_id, "lake": manifest.lake, "endpoint": manifest.endpoint_url}
    facts |= {"series": "chosen" if manifest.series else ""}
    lines = [_FIRST, *(f"# {name}: {value}" for name, value in facts.items() if value), *manifest.series]
    return "\n".join(lines) + "\n"


def manifest_from_text(text: str, *, path: Path | str = "manifest") -> Manifest:
    """Read a manifest; editors' line ends and byte order marks, blank lines and other comments do no harm.

    Raises
    ------
    ConfigInvalid
        With all problems, each with its line.
    """
    problems, facts = [], {}
    series: dict[str, None] = {}
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != _FIRST:
        problems.append(f"line 1: {_FIRST!r} is what a manifest begins with")
    for number, line in enumerate(map(str.strip, lines), 1):
        if found := _FACT.fullmatch(line):
            facts[found[1]] = found[2]
        elif line.startswith("#") or not line:
            continue
        elif _UID.fullmatch(line):
            series[line] = None
        else:
            problems.append(f"line {number}: {line[:70]!r} is no Series Instance UID")
    if "release" not in facts:
        problems.append("the line '# release: ID' is missing")
    if "series" in facts and not series:
        problems.append("it says that series were chosen and has none: it was cut off")
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return Manifest(facts["release"], tuple(series), facts.get("lake", ""), facts.get("endpoint", ""))


def manifest_of(asked: str, settings: StoreSettings) -> tuple[Manifest, StoreSettings]:
    """What a file or the id of a release asks for, and where that lies; settings that were given come first.

    Raises
    ------
    SourceMissing, ConfigInvalid
    """
    path = Path(asked)
    if not path.is_file() and path.suffix != ".manifest":
        return Manifest(asked), settings
    try:
        manifest = manifest_from_text(path.read_text(encoding="utf-8"), path=path)
    except UnicodeDecodeError as exc:
        raise ConfigInvalid(path=path, problems=["it is no text in UTF-8: save it as one"]) from exc
    except OSError as exc:
        raise SourceMissing(path=path) from exc
    told = {"lake": manifest.lake, "s3_endpoint_url": manifest.endpoint_url}
    given = settings.model_dump(include=settings.model_fields_set)
    where = {} if "lake" in given else {name: value for name, value in told.items() if value}
    return manifest, StoreSettings(**{**where, **given})
