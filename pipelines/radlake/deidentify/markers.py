"""What a de-identified object says about itself (PS3.15 E.1.1 and E.3.6)."""

from __future__ import annotations

from collections.abc import Iterator

from radlake.deidentify.elements import Element, dataset, raw_element, sequence_element
from radlake.deidentify.profile import CLEAN_PIXEL_DATA, OPTION_CODES, Profile
from radlake.deidentify.reference_table import table_edition

__all__ = ["marker_elements"]


def marker_elements(profile: Profile, *, are_pixels_cleaned: bool = False) -> Iterator[Element]:
    """Patient Identity Removed, De-identification Method and its codes, Longitudinal Temporal Information Modified.

    Clean Pixel Data is told of an instance whose pixels were looked at, and of no other.
    """
    edition = table_edition().split(" - ")[0]
    method = f"radlake profile {profile.label}\\{edition}"
    yield raw_element(0x00120062, "CS", b"YES")
    yield raw_element(0x00120063, "LO", method.encode())
    codes = [
        dataset(
            {
                elem.tag: elem
                for elem in (
                    raw_element(0x00080100, "SH", code.encode()),
                    raw_element(0x00080102, "SH", b"DCM"),
                    raw_element(0x00080104, "LO", meaning.encode()),
                )
            }
        )
        for code, meaning in profile.codes
        if are_pixels_cleaned or code != OPTION_CODES[CLEAN_PIXEL_DATA]
    ]
    yield sequence_element(0x00120064, codes)
    yield raw_element(0x00280303, "CS", profile.temporal_information.encode())
