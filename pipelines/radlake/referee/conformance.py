"""What dciodvfy of dicom3tools says about an object, before and after: de-identification may not break an IOD.

dciodvfy is a program of its own that is only called; its messages are told by class, without the values in them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from radlake.errors import ConfigInvalid

__all__ = ["Dciodvfy"]

_SECONDS = 60
_LOST = frozenset(["Information Object Not found"])
_VALUE = re.compile(r"(?<!Element=)(?<!Module=)(?<!attribute )<[^>]*>")
_TOLD_VALUES = re.compile(r"(values are| = |at byte|value) [^<]*$")


class Dciodvfy:
    """The validator, found on the path.

    Raises
    ------
    ConfigInvalid
        If it is not installed.
    """

    def __init__(self, program: str = "dciodvfy") -> None:
        found = shutil.which(program)
        if found is None:
            raise ConfigInvalid(path=program, problems=["it is not installed; on Debian: apt-get install dicom3tools"])
        self._program = found

    def errors(self, data: bytes) -> Counter[str]:
        """Errors of an object by class of message, warnings left out."""
        with tempfile.TemporaryDirectory(prefix="referee-") as folder:
            path = Path(folder) / "object.dcm"
            path.write_bytes(data)
            try:
                told = subprocess.run(
                    [self._program, str(path)], capture_output=True, text=True, errors="replace", timeout=_SECONDS
                )
            except subprocess.TimeoutExpired:
                return Counter(["dciodvfy did not end"])
        lines = (told.stdout + told.stderr).splitlines()
        return Counter(_class_of(line) for line in lines if line.startswith("Error"))

    def worse(self, original: bytes, written: bytes) -> Counter[str]:
        """Classes of errors that an object has more of than its original; empty unless it has more errors in all.

        Nothing is said about an original whose IOD dciodvfy cannot tell (elements out of order, mostly).
        """
        before, after = self.errors(original), self.errors(written)
        if before.keys() & _LOST and not after.keys() & _LOST:
            return Counter()
        return after - before if after.total() > before.total() else Counter()


def _class_of(line: str) -> str:
    line = _VALUE.sub("<*>", line.removeprefix("Error - "))
    return re.sub(r"\d+", "N", _TOLD_VALUES.sub(r"\1 *", line)).strip()
