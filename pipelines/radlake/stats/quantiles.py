"""Quantiles of the normal, Student's t, gamma and chi-squared distributions.

The very numbers of `scipy.stats`, whose import takes a second and each call of which 80 us: of every verb that builds.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from scipy import special

__all__ = ["chi2_sf", "gamma_isf", "gamma_ppf", "normal_isf", "t_isf"]

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


def chi2_sf(value: float, freedom: float) -> float:
    """With which probability chi-squared with `freedom` degrees of freedom exceeds a value."""
    return float(special.chdtrc(freedom, value))
