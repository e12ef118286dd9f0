"""Pull a release: what its holder runs, who has no restricted zone, no key and none of the platform's large libraries.

`released` says what there is, `manifest` what of it is wanted, `layouts` (with `files` and `shards`) how it shall lie,
`run` fetches and verifies it.
"""

from __future__ import annotations

from radlake.cohort.pull.layouts import LAYOUTS
from radlake.cohort.pull.manifest import Manifest, manifest_from_text, manifest_of, manifest_text
from radlake.cohort.pull.released import Release, ReleaseClosed, ReleaseUnknown, open_release
from radlake.cohort.pull.run import RETRY, Pulled, Step, pull

__all__ = [
    "LAYOUTS",
    "RETRY",
    "Manifest",
    "Pulled",
    "Release",
    "ReleaseClosed",
    "ReleaseUnknown",
    "Step",
    "manifest_from_text",
    "manifest_of",
    "manifest_text",
    "open_release",
    "pull",
]
