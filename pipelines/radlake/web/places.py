"""Places: regions by their GB/T 2260 code, whose three pairs of digits are province, city and county.

A statistic is published by hospital; a region is the sum of its hospitals, made by `figures.cube`, so what is withheld
of one hospital stays withheld in its region.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["UNKNOWN", "above", "digits_below", "prefix_of", "with_those_above"]

UNKNOWN = "UNKNOWN"  # of a hospital that is not registered, or without a region


def prefix_of(code: str) -> str:
    """What the codes of all regions within begin with.

    >>> prefix_of("320000"), prefix_of("320100"), prefix_of("320102"), prefix_of("UNKNOWN"), prefix_of("")
    ('32', '3201', '320102', 'UNKNOWN', '')
    """
    if not code.isdigit():
        return code
    return code[:2] if code.endswith("0000") else code[:4] if code.endswith("00") else code


def above(code: str) -> tuple[str, ...]:
    """The regions that a region lies in, the largest first.

    >>> above("320102"), above("320100"), above("UNKNOWN")
    (('320000', '320100'), ('320000',), ())
    """
    given = prefix_of(code)
    return tuple(code[:n].ljust(6, "0") for n in (2, 4) if code.isdigit() and n < len(given))


def with_those_above(codes: Collection[str]) -> tuple[str, ...]:
    """Regions of hospitals and all that these lie in, each after the one it lies in; the only province is left out.

    >>> with_those_above(["320102", "UNKNOWN", "320300"])
    ('320100', '320102', '320300', 'UNKNOWN')
    """
    found = {*codes, *(region for code in codes for region in above(code))}
    provinces = {code for code in found if code.isdigit() and len(prefix_of(code)) == 2}
    return tuple(sorted(found - provinces if len(provinces) == 1 else found, key=lambda code: (code == UNKNOWN, code)))


def digits_below(chosen: str, offered: Sequence[str]) -> int:
    """How many digits tell the regions next below the chosen one apart.

    >>> digits_below("", ("320100", "320102")), digits_below("320100", ()), digits_below("", ("110000", "320000"))
    (4, 6, 2)
    """
    if not chosen:
        return 2 if any(code.isdigit() and len(prefix_of(code)) == 2 for code in offered) else 4
    return min(6, len(prefix_of(chosen)) + 2) if chosen.isdigit() else 6
