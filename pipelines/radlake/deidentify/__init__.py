"""De-identification: PS3.15 Annex E, keyed, at every depth, failing closed.

A profile is compiled from the reference table of the standard (schemas/deid/) and from YAML that an ethics board signs
(schemas/profiles/). What pixels need is told by `radlake.pixels`. See docs/explanation/deidentification.md.
"""

from __future__ import annotations

from radlake.deidentify.deidentifier import Deidentifier
from radlake.deidentify.keyfile import key_ring
from radlake.deidentify.keys import KeyRing
from radlake.deidentify.person import Person, identify_person
from radlake.deidentify.profile import Profile, load_profile
from radlake.deidentify.told import Told, identifiers_of

__all__ = [
    "Deidentifier",
    "KeyRing",
    "Person",
    "Profile",
    "Told",
    "identifiers_of",
    "identify_person",
    "key_ring",
    "load_profile",
]
