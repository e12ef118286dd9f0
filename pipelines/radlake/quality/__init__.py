"""The quality gate: Great Expectations between a staged batch and the lake.

`checks` says what must hold (from the contracts), `frames` brings the tables side by side, `suites` is the
only module that knows Great Expectations, `gate` decides what is held back. Fixing data is nobody's job here.
"""

from radlake.quality.gate import GateResult, check_batch
from radlake.quality.suites import load_suites

__all__ = ["GateResult", "check_batch", "load_suites"]
