"""Quantiles of the normal, Student's t, gamma and F distributions.

The very numbers of `scipy.stats`, whose import takes a second and each call of which 80 us: of every verb that builds.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from scipy import special

__all__ = ["f_sf", "gamma_isf", "gamma_ppf", "normal_isf", "t_isf"]

Numbers = TypeVar("Numbers", float, np.ndarray)


def normal_isf(tail: float) -> float:
    """What a standard normal number exceeds with probability `tail`."""
    return -float(special.ndtri(tail))


def t_isf(tail: float, freedom: float) -> float:
    """What Student's t with `freedom` degrees of freedom exceeds with probability `tail`."""
    return -float(special.stdtrit(freedom, tail))


def gamma_ppf(tail: float, shape: Numbers, *, scale: Numbers) -> Numbers:
    """What a gamma number stays below with probability `tail`."""
    return special.gammaincinv(shape, tail) * scale


def gamma_isf(tail: float, shape: Numbers, *, scale: Numbers) -> Numbers:
    """What a gamma number exceeds with probability `tail`."""
    return special.gammainccinv(shape, tail) * scale


def f_sf(value: float, above: float, below: float) -> float:
    """With which probability Snedecor's F with so many degrees of freedom above and below exceeds a value."""
    return float(special.fdtrc(above, below, value))
