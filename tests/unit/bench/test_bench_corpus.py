"""A benchmark that counts leaks must be able to find one, in every kind of output."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench.corpus import Corpus, n_leaking, sampled

NEEDLES = frozenset([b"ZZPHI"])


@pytest.mark.parametrize("content", [b"clean", b"a ZZPHI b"])
def test_a_leak_is_found_in_files_members_and_values(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.dcm").write_bytes(content)
    with ZipFile(tmp_path / "series.zip", "w") as series:
        series.writestr("two.dcm", content)
    with ZipFile(tmp_path / "deflated.zip", "w", ZIP_DEFLATED) as series:
        series.writestr("three.dcm", content * 100)
    pq.write_table(pa.table({"text": [content.decode()] * 1000}), tmp_path / "rows.parquet", compression="zstd")

    assert n_leaking(NEEDLES, tmp_path) == ("4/4" if b"ZZPHI" in content else "0/4")


def test_a_sample_has_its_share_of_every_folder(tmp_path: Path) -> None:
    for folder, n_files in (("ct/s00", 11), ("dx", 3)):
        (tmp_path / "all" / folder).mkdir(parents=True)
        for number in range(n_files):
            (tmp_path / "all" / folder / f"{number:04d}.dcm").touch()

    sample = sampled(Corpus(tmp_path / "all", NEEDLES), tmp_path / "some", every=5)

    names = [str(path.relative_to(sample.folder)) for path in sample.files]
    assert names == ["ct/s00/0000.dcm", "ct/s00/0005.dcm", "ct/s00/0010.dcm", "dx/0000.dcm"]
