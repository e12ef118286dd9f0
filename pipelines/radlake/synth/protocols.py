"""Kinds of exams: what a hospital orders, how it names them, which series they produce.

Body parts are defined terms of PS3.16 Annex L. The order of the table carries no meaning; the weights do.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROTOCOLS", "Protocol", "SeriesPlan"]


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """A series to be: kind of object, name, and the range of its number of instances."""

    kind: str
    description: str
    fewest: int = 1
    most: int = 1
    view: str = ""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A kind of exam. `is_paired`: it is of one side, left or right."""

    modality: str
    body_part: str
    name_zh: str
    name_en: str
    weight: float
    series: tuple[SeriesPlan, ...]
    has_contrast: bool = False
    is_paired: bool = False
    sex: str = "FM"
    min_age: int = 0


_SCOUT = SeriesPlan("CT", "Topogram")
_CT = (_SCOUT, SeriesPlan("CT", "Axial 5.0", 2, 4))
_CT_CONTRAST = (*_CT, SeriesPlan("CT", "Axial 5.0 arterial", 2, 4), SeriesPlan("CT", "Axial 5.0 venous", 2, 4))
_MR = (SeriesPlan("MR", "T1 SE tra", 2, 3), SeriesPlan("MR", "T2 TSE tra", 2, 3), SeriesPlan("MR", "T2 TSE sag", 2, 3))
_MR_CONTRAST = (*_MR, SeriesPlan("MR", "T1 SE tra +C", 2, 3))
_PA = (SeriesPlan("DX", "PA", view="PA"),)
_AP = (SeriesPlan("DX", "AP", view="AP"),)
_AP_LAT = (SeriesPlan("DX", "AP", view="AP"), SeriesPlan("DX", "LAT", view="LL"))
_MG = tuple(SeriesPlan("MG", f"{side} {view}", view=view) for side in "RL" for view in ("CC", "MLO"))
_US = (SeriesPlan("US", "Still images", 2, 3),)

PROTOCOLS = (
    Protocol("CT", "CHEST", "胸部CT平扫", "CT Chest plain", 18, _CT),
    Protocol("CT", "CHEST", "胸部CT平扫+增强", "CT Chest plain + contrast", 5, _CT_CONTRAST, has_contrast=True),
    Protocol("CT", "HEAD", "颅脑CT平扫", "CT Head plain", 9, _CT),
    Protocol("CT", "ABDOMEN", "上腹部CT平扫", "CT Upper abdomen plain", 4, _CT),
    Protocol("CT", "ABDOMEN", "上腹部CT平扫+增强", "CT Abdomen plain + contrast", 5, _CT_CONTRAST, has_contrast=True),
    Protocol("CT", "LSPINE", "腰椎CT平扫", "CT Lumbar spine plain", 3, _CT),
    Protocol("DX", "CHEST", "胸部DR正位", "DR Chest PA", 16, _PA),
    Protocol("DX", "KNEE", "膝关节DR正侧位", "DR Knee AP LAT", 6, _AP_LAT, is_paired=True),
    Protocol("DX", "HAND", "手DR正位", "DR Hand AP", 4, _AP, is_paired=True),
    Protocol("DX", "ANKLE", "踝关节DR正侧位", "DR Ankle AP LAT", 3, _AP_LAT, is_paired=True),
    Protocol("DX", "LSPINE", "腰椎DR正侧位", "DR Lumbar spine AP LAT", 4, _AP_LAT),
    Protocol("DX", "PELVIS", "骨盆DR正位", "DR Pelvis AP", 2, _AP),
    Protocol("MR", "HEAD", "颅脑MRI平扫", "MRI Head plain", 6, _MR),
    Protocol("MR", "HEAD", "颅脑MRI平扫+增强", "MRI Head plain + contrast", 2, _MR_CONTRAST, has_contrast=True),
    Protocol("MR", "LSPINE", "腰椎MRI平扫", "MRI Lumbar spine plain", 4, _MR),
    Protocol("MR", "KNEE", "膝关节MRI平扫", "MRI Knee plain", 3, _MR, is_paired=True),
    Protocol("MG", "BREAST", "双侧乳腺钼靶", "Mammography bilateral breast", 4, _MG, sex="F", min_age=40),
    Protocol("US", "ABDOMEN", "腹部彩超", "Ultrasound Abdomen", 3, _US),
)
