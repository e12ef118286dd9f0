"""What lies in a pulled folder and is not in the release: its persons were withdrawn, or it is of an earlier pull.

A release out of which somebody was withdrawn keeps its id. Whoever pulled it before has files of that person, which
nobody else can delete. They are told, and stay: the folder is its holder's.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

__all__ = ["strays"]


def strays(folder: Path, known: set[str], *, made: Collection[Path]) -> list[Path]:
    """Series, ZIPs and shards of a folder that hold what is not in the release.

    Parameters
    ----------
    known : set of str
        Series Instance UIDs of the release.
    made : collection of Path
        What this pull made or found whole.
    """
    placed = (path for layout in ("dicom", "nifti") for path in folder.glob(f"{layout}/*/*/*"))
    found = [path for path in placed if path.name not in known]
    found += [path for path in folder.glob("zip/*/*/*.zip") if path.name.rsplit(".", 2)[0] not in known]
    found += [path for path in folder.glob("webdataset/*.tar") if path not in made and not _is_of(path, known)]
    return sorted(found)


def _is_of(shard: Path, known: set[str]) -> bool:
    with suppress(tarfile.ReadError), tarfile.open(shard) as archive:
        return all(member.name.partition("/")[0].replace("-", ".") in known for member in archive)
    return False
