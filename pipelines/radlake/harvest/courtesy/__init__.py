"""Courtesy: when a node may be asked, how much, and what we do when it feels our load.

`week` is the declared calendar, `waiting_time`, `throttle` and `breaker` the closed loop, `state` the decision from
all of them; these are pure. `gate` acts.
"""

from radlake.harvest.courtesy.gate import NodeGate, load_states
from radlake.harvest.courtesy.state import Allowed, NodeState, allowed
from radlake.harvest.courtesy.week import Week, week_of

__all__ = ["Allowed", "NodeGate", "NodeState", "Week", "allowed", "load_states", "week_of"]
