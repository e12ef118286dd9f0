"""The quality gate: Great Expectations between a staged batch and the lake.

`checks` says what must hold (from the contracts), `frames` brings the tables side by side, `first_look` finds that all
of it holds, else `suites`, the only module that knows Great Expectations, tells what does not; `gate` decides what is
held back. Fixing data is nobody's job here.
"""

from radlake.quality.gate import GateResult, check_batch

__all__ = ["GateResult", "check_batch"]
