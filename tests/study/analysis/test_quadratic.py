"""Quadratic regressions against numpy.polyfit, statistics computed another way, and figures known of the report."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from thermoebm.runs.logged import VARIANCES
from thermoebm.study.analysis import published
from thermoebm.study.analysis.quadratic import fit
from thermoebm.study.planning.columns import is_extension, regime


def points(seed: int, n: int = 20, scale: float = 1.0, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = offset + scale * rng.uniform(0, 1, n)
    u = (x - offset) / scale
    return x, 2 - 3 * u + 2.5 * u**2 + 0.2 * rng.standard_normal(n)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-8, 3e-8), (100.0, -50.0)])
def test_coefficients_are_those_of_polyfit_at_every_scale(scale, offset):
    x, y = points(0, scale=scale, offset=offset)
    quadratic = fit(x, y)
    grid = np.linspace(x.min(), x.max(), 50)
    shifted = np.polynomial.Polynomial.fit(x, y, 2)  # on a domain of its own: exact at every scale
    assert np.allclose(quadratic(grid), shifted(grid), rtol=1e-9, atol=1e-9)
    a, b, c = shifted.convert().coef
    assert np.allclose(quadratic.coefficients, (a, b, c), rtol=1e-7)
    assert quadratic.vertex == pytest.approx(shifted.deriv().roots()[0], rel=1e-9)


def test_statistics_are_those_of_analyses_of_variance_by_hand():
    """R² is the squared correlation of y and its fitted values; the F test has p = (1 - R²)^((n - 3)/2)."""
    x, y = points(1)
    quadratic = fit(x, y)
    fitted = np.polyval(np.polyfit(x, y, 2), x)
    line = stats.linregress(x, y)
    r2 = np.corrcoef(fitted, y)[0, 1] ** 2
    assert quadratic.n == 20
    assert quadratic.r2 == pytest.approx(r2, rel=1e-9)
    assert quadratic.f == pytest.approx(r2 / (1 - r2) * 17 / 2, rel=1e-9)
    assert quadratic.p == pytest.approx((1 - r2) ** (17 / 2), rel=1e-9)  # closed form of F with 2 and n - 3
    t = np.sqrt((r2 - line.rvalue**2) / (1 - r2) * 17)  # of the coefficient of x²
    assert quadratic.curvature_f == pytest.approx(t**2, rel=1e-9)
    assert quadratic.curvature_p == pytest.approx(2 * stats.t.sf(t, 17), rel=1e-9)


def test_the_f_test_rejects_noise_as_often_as_it_says():
    """Both p-values are uniform where y does not depend on x."""
    rng = np.random.default_rng(2)
    fits = [fit(rng.standard_normal(12), rng.standard_normal(12)) for _ in range(400)]
    for ps in ([one.p for one in fits], [one.curvature_p for one in fits]):
        assert stats.kstest(ps, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("dataset", "name", "r2", "vertex"),
    [("CelebA", "p > 1", 0.61, 0.36), ("CIFAR10", "vanilla", 0.78, None), ("CIFAR10", "p > 1", 0.14, None)],
)
def test_the_report_s_figures(dataset, name, r2, vertex):
    """What its raw results give, as computed before this package was written."""
    quadratic = published_fit(dataset, name)
    assert round(quadratic.r2, 2) == r2
    assert vertex is None or round(quadratic.vertex, 2) == vertex


def test_only_celeba_above_one_is_quadratic():
    """Curved on CelebA for p > 1 (p = .009 against a line), and flat there for the vanilla model (R² .02 to .03)."""
    assert round(published_fit("CelebA", "p > 1").curvature_p, 3) == 0.009
    assert 0.02 < published_fit("CelebA", "vanilla").r2 < 0.03
    assert published_fit("CIFAR10", "vanilla").p < 0.001
    assert published_fit("CIFAR10", "p > 1").p > 0.1


def published_fit(dataset: str, name: str):
    table = pd.read_csv(Path(published.__file__).with_name("published.csv"))
    chosen = table[(table["dataset"] == dataset) & (regime(table) == name) & ~is_extension(table)]
    return fit(chosen[VARIANCES["across parameters"]], chosen["fidelity/test/KID-rbf_inf"])


def test_what_is_not_finite_is_left_out():
    x, y = points(3)
    quadratic = fit([*x, np.nan, 1.0, np.inf], [*y, 1.0, np.nan, 2.0])
    assert quadratic == fit(x, y)


def test_exact_curves_and_constants():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    exact = fit(x, 1 + (x - 1.5) ** 2)
    assert exact.r2 == 1
    assert exact.vertex == pytest.approx(1.5)
    assert exact.f == exact.curvature_f == np.inf
    assert exact.p == exact.curvature_p == 0
    constant = fit(x, np.full(5, 0.1))
    assert np.isnan([constant.r2, constant.f, constant.p]).all()


@pytest.mark.parametrize("x", [[0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 1.0, 1.0], []])
def test_too_few_points_are_refused(x):
    with pytest.raises(ValueError, match=f"at least 4 points at 3 different places .* these are {len(x)} at"):
        fit(x, list(range(len(x))))
