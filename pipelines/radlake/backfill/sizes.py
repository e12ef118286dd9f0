"""How many bytes a listed study will take in the lake, before any of it was fetched: an estimate.

What is stored of the same hospital and modality decides, then what is stored of the modality anywhere, then a table of
typical sizes. Listed modalities are those of Modalities in Study (0008,0061).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from radlake.lake import Lake
from radlake.net import StudyFound
from radlake.vocab import modality_group

__all__ = ["Measured", "Sizes", "measured_sizes"]

_ENOUGH = 20  # studies; fewer say little
_HEADER = 2_000


@dataclass(frozen=True)
class Measured:
    """Sums over stored studies."""

    n_studies: int
    n_instances: int
    n_bytes: int


# Instances of a study, and bytes of one: rows x columns x bytes of usual matrices, without compression. The matrix of
# CR is that of the PACSnet storage calculator (1760 x 2140 x 16 bit); CT has 512 x 512 and MR 384 x 384 x 16 bit, MG
# 3328 x 4096 x 16 bit, screens of ultrasound 640 x 480 x 24 bit, XA and RF 512 x 512 x 8 bit x 20 frames. The numbers
# of instances are orders of magnitude, used only for nodes that give no counts. Of an unknown modality: 300 MB and
# 205 instances, the mean over a province (48 PB of 150 million exams).
_TYPICAL = {
    "CT": (300, 512 * 512 * 2),
    "MR": (200, 384 * 384 * 2),
    "PT": (400, 256 * 256 * 2),
    "NM": (5, 256 * 256 * 2 * 10),
    "DX": (2, 1760 * 2140 * 2),
    "MG": (4, 3328 * 4096 * 2),
    "US": (30, 640 * 480 * 3),
    "XA": (20, 512 * 512 * 20),
    "RF": (20, 512 * 512 * 20),
}
_TYPICAL_OF_UNKNOWN = (205, 1_460_000)


@dataclass(frozen=True)
class Sizes:
    """What is stored, by hospital ("": all of them) and modality group."""

    measured: Mapping[tuple[str, str], Measured]

    def n_bytes(self, hospital_id: str, study: StudyFound) -> int:
        """Estimated bytes of a study in the lake."""
        group = modality_group(study.modalities)
        for known in (self._enough(hospital_id, group), self._enough("", group)):
            if known is not None:
                if study.n_instances is None:
                    return known.n_bytes // known.n_studies
                return known.n_bytes * study.n_instances // known.n_instances
        n_instances, size = _TYPICAL.get(group, _TYPICAL_OF_UNKNOWN)
        return (n_instances if study.n_instances is None else study.n_instances) * (size + _HEADER)

    def source(self, hospital_id: str, studies: Iterable[StudyFound]) -> str:
        """Where the estimate of most of these studies comes from, in words."""
        n_own = n_other = n_typical = 0
        for study in studies:
            group = modality_group(study.modalities)
            if self._enough(hospital_id, group):
                n_own += 1
            elif self._enough("", group):
                n_other += 1
            else:
                n_typical += 1
        best = max((n_own, "stored studies of this hospital"), (n_other, "stored studies of other hospitals"))
        return max(best, (n_typical, "typical sizes"), key=lambda pair: pair[0])[1]

    def _enough(self, hospital_id: str, group: str) -> Measured | None:
        """What is known of a hospital ("": of all), unless that says little."""
        known = self.measured.get((hospital_id, group))
        return known if known and known.n_studies >= _ENOUGH and known.n_instances else None


def measured_sizes(lake: Lake) -> Sizes:
    """Read what is stored; hospital "" is all of them."""
    from radlake.lake import duck

    query = """
        SELECT hospital_id, modality_group, count(*), sum(n_instances), sum(study_bytes)
        FROM dicom.study GROUP BY GROUPING SETS ((hospital_id, modality_group), (modality_group))
    """
    with duck.connect(lake, tables=["dicom.study"]) as connection:
        rows = connection.execute(query).fetchall()
    return Sizes({(hospital or "", group): Measured(int(n), int(i), int(b)) for hospital, group, n, i, b in rows})
