"""Quadratic regression with its R² and F tests, as in the report's figures 5, 10, 18 and 19."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Vector = NDArray[np.float64]


class Quadratic(NamedTuple):
    """The curve y = a + b x + c x², fitted by least squares.

    Attributes:
        coefficients: (a, b, c).
        r2: Share of the variance of y that the curve explains; nan if y does not vary.
        f, p: F test of the curve against a constant, with 2 and n - 3 degrees of freedom.
        curvature_f, curvature_p: F test of the curve against a straight line, with 1 and n - 3: whether x² is needed.
        vertex: The x at which the curve turns, -b/2c; a minimum if c > 0. nan for a straight line.
        n: The number of points.
    """

    coefficients: tuple[float, float, float]
    r2: float
    f: float
    p: float
    curvature_f: float
    curvature_p: float
    vertex: float
    n: int

    def __call__(self, x: Sequence[float] | Vector) -> Vector:
        """The curve at x, of the same shape."""
        a, b, c = self.coefficients
        at = np.asarray(x, dtype=np.float64)
        return a + b * at + c * at**2


def fit(x: Sequence[float] | Vector, y: Sequence[float] | Vector) -> Quadratic:
    """Fits a quadratic to the points (x, y) at which both are finite.

    Args:
        x, y: (n,).

    Raises:
        ValueError: If there are fewer than four points, which leaves no degree of freedom for a test, or fewer than
            three values of x.
    """
    points = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    at, value = points[:, np.isfinite(points).all(0)]
    if len(at) < 4 or len(np.unique(at)) < 3:
        raise ValueError(
            f"A quadratic needs at least 4 points at 3 different places to be tested; these are {len(at)} at "
            f"{len(np.unique(at))}."
        )
    centre, scale = float(at.mean()), float(at.std())  # variances may be 1e-8: their squares must not be lost beside 1
    powers = np.vander((at - centre) / scale, 3, increasing=True)
    constant, line, curve = (_residual(powers[:, :terms], value) for terms in (1, 2, 3))
    level, slope, bend = map(float, np.linalg.lstsq(powers, value, rcond=None)[0])
    freedom = len(at) - 3
    f, curvature_f = _ratio(constant - curve, curve, 2, freedom), _ratio(line - curve, curve, 1, freedom)
    across = centre / scale
    a, b, c = level - slope * across + bend * across**2, (slope - 2 * bend * across) / scale, bend / scale**2
    return Quadratic(
        coefficients=(a, b, c),
        r2=1 - curve / constant if constant > 0 else float("nan"),
        f=f,
        p=float(stats.f.sf(f, 2, freedom)),
        curvature_f=curvature_f,
        curvature_p=float(stats.f.sf(curvature_f, 1, freedom)),
        vertex=-b / (2 * c) if c else float("nan"),
        n=len(at),
    )


def _residual(terms: Vector, y: Vector) -> float:
    """Residual sum of squares of a regression of y on these columns (n, k); rounding error counts as 0."""
    left = float(np.sum((y - terms @ np.linalg.lstsq(terms, y, rcond=None)[0]) ** 2))
    return left if left > 1e-24 * float(y @ y) else 0.0


def _ratio(gained: float, left: float, terms: int, freedom: int) -> float:
    """The F statistic; infinite if no residual is left, nan if there was nothing to explain either."""
    if left == 0:
        return float("inf") if gained > 0 else float("nan")
    return max(gained, 0.0) / terms / (left / freedom)
