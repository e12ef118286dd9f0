"""NIfTI by dcm2niix, a program of its own (BSD licence; Debian's `dcm2niix`, or the extra `radlake[nifti]`).

Its BIDS sidecars say slice times and scanner settings; `conversion.json` beside them says what was converted by which
version. Series without pictures (reports, presentation states) have that file alone.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from radlake.cohort.pull.chunks import file_digest
from radlake.cohort.pull.released import SeriesObject
from radlake.cohort.pull.targets import FolderTarget, give_name
from radlake.errors import ConfigInvalid, PermanentError

__all__ = ["NiftiTarget", "is_converted", "require_converter"]

_TOLD = "conversion.json"
_NOTHING_TO_CONVERT, _SOME_LEFT = 2, 8  # exit codes of dcm2niix (nii_dicom_batch.h)
_LONGEST = 3600.0


class NotConverted(PermanentError):
    sentence = "dcm2niix could not convert {series} ({reason}). Pull it with --layout dicom instead."


class NiftiTarget(FolderTarget):
    """A series that is pulled as DICOM and then converted."""

    def __init__(self, objects: tuple[SeriesObject, ...], *, part: Path, final: Path) -> None:
        if final.exists():
            shutil.rmtree(final)
        super().__init__(objects, part=part, final=final)

    @property
    def _out(self) -> Path:
        return self.part / "nifti"

    def finish(self) -> None:
        out = self._out
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        program = require_converter()
        command = [program, "-b", "y", "-ba", "y", "-z", "y", "-f", "%s", "-o", str(out), "-d", "0", str(self.part)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
        if done.returncode not in (0, _NOTHING_TO_CONVERT, _SOME_LEFT):
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise NotConverted(series=self.objects[0].series_uid, reason=f"exit {done.returncode}: {said[0]}")
        files = {}
        for path in sorted(out.iterdir()):
            files[path.name] = {"bytes": path.stat().st_size, "xxh3_128": file_digest(path)}
        told = {"converter": converter_version(program), "files": files, "of": _digests(self.objects),
                "is_partial": done.returncode == _SOME_LEFT}  # fmt: skip
        (out / _TOLD).write_text(json.dumps(told, indent=1, sort_keys=True), encoding="utf-8")

    def name(self) -> None:
        give_name(self._out, self.final)
        shutil.rmtree(self.part)


def is_converted(objects: tuple[SeriesObject, ...], final: Path, *, by_digest: bool) -> bool:
    """Whether the files of a conversion of these objects are all here."""
    try:
        told = json.loads((final / _TOLD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return told["of"] == _digests(objects) and all(
        (path := final / name).is_file()
        and path.stat().st_size == facts["bytes"]
        and (not by_digest or file_digest(path) == facts["xxh3_128"])
        for name, facts in told["files"].items()
    )


@cache
def require_converter() -> str:
    """Path of dcm2niix: on the search path, or beside this Python.

    Raises
    ------
    ConfigInvalid
    """
    beside = shutil.which("dcm2niix", path=str(Path(sys.executable).parent))
    if found := shutil.which("dcm2niix") or beside:
        return found
    problem = (
        "dcm2niix is not installed: `pip install dcm2niix`, or `apt-get install dcm2niix`; or choose another layout"
    )
    raise ConfigInvalid(path="--layout nifti", problems=[problem])


@cache
def converter_version(program: str) -> str:
    """What it calls itself, as `v1.0.20250506`."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"v\d+\.\d+\.\d+", said.stdout + said.stderr)
    return f"dcm2niix {found[0]}" if found else "dcm2niix"


def _digests(objects: tuple[SeriesObject, ...]) -> list[str]:
    return [series.digest for series in objects]
