"""Whole numbers that follow from the sizes of inputs, written in one way each.

An expression is a number, a size that nothing more is known of (any other hashable value), or
("floor", x, a, b, k), which stands for floor((a * x + b) / k). Strides, scales and the arithmetic
that exporters write on sizes come to that, and equal ones come to the same tuple. What is proven
here holds for sizes of at least 1.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import gcd, lcm

_FLOOR = "floor"
_UNKNOWN = "unknown"
_LONGEST_PERIOD = 2**12
_DEEPEST = 8  # floors of floors that are no single one


def unknown(value: Hashable, index: int) -> Hashable:
    """An entry of a vector of which nothing is known, not even its sign."""
    return (_UNKNOWN, value, index)


def floor(x: Hashable, a: int = 1, b: int = 0, k: int = 1) -> Hashable:
    """floor((a * x + b) / k), for k > 0."""
    if isinstance(x, int):
        return (a * x + b) // k
    inner = _parts(x)
    if inner is not None:
        y, c, d, m = inner
        if m == 1:  # a * (c * y + d) + b
            x, a, b = y, a * c, a * d + b
        elif a == 1:  # a floor of a floor, as m and k are positive
            x, a, b, k = y, c, d + b * m, k * m
    shared = gcd(a, k)
    a, b, k = a // shared, b // shared, k // shared  # as a * x / shared is whole
    if a == 0:
        return b // k
    if (a, b, k) == (1, 0, 1):
        return x
    return (_FLOOR, x, a, b, k) if _depth(x) < _DEEPEST else (_UNKNOWN, x, (a, b, k))


def lowest(x: Hashable) -> int | None:
    """A bound from below, if there is one."""
    if isinstance(x, int):
        return x
    if (parts := _parts(x)) is not None:
        y, a, b, k = parts
        least = lowest(y)
        return None if least is None or a < 0 else (a * least + b) // k
    return None if isinstance(x, tuple) and x[:1] == (_UNKNOWN,) else 1


def never_more(x: Hashable, y: Hashable) -> bool:
    """Whether x <= y for sure.

    With every period of the size that both are made of, each of them grows by a constant. So it is
    enough to compare them along one period.
    """
    if isinstance(x, int):
        least = lowest(y)
        return least is not None and x <= least
    if isinstance(y, int) or _root(x) != _root(y) or lowest(_root(x)) is None:
        return False
    (period, growth), (other, grown) = _period(x), _period(y)
    both = lcm(period, other)
    if both > _LONGEST_PERIOD or growth * (both // period) > grown * (both // other):
        return False
    return all(_at(x, size) <= _at(y, size) for size in range(1, both + 1))


def _parts(x: Hashable) -> tuple[Hashable, int, int, int] | None:
    if isinstance(x, tuple) and len(x) == 5 and x[0] == _FLOOR:
        return x[1], x[2], x[3], x[4]
    return None


def _depth(x: Hashable) -> int:
    depth = 0
    while (parts := _parts(x)) is not None:
        x, depth = parts[0], depth + 1
    return depth


def _root(x: Hashable) -> Hashable:
    while (parts := _parts(x)) is not None:
        x = parts[0]
    return x


def _at(x: Hashable, size: int) -> int:
    parts = _parts(x)
    if parts is None:
        return size
    y, a, b, k = parts
    return (a * _at(y, size) + b) // k


def _period(x: Hashable) -> tuple[int, int]:
    """After how much more of its size an expression repeats, but for how much it then grew."""
    parts = _parts(x)
    if parts is None:
        return 1, 1
    y, a, _, k = parts
    period, growth = _period(y)
    times = k // gcd(k, a * growth)
    return period * times, a * growth * times // k
