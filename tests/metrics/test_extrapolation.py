"""Extrapolation in 1/N: the bias in closed form and its removal, the coverage of the standard error, the protocols."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.metrics.test_kernels import exact_poly, exact_rbf, normal
from thermoebm.metrics import kernels
from thermoebm.metrics.extrapolation import SIZES, Extrapolator, fit_sizes, line, subsets

# A tenth of the report's.
SMALL = [size // 10 for size in SIZES]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def repeat(distance, dimensions, shift, sigma, count, sizes=SMALL):
    """Extrapolations for independent pairs of samples from N(0, I) and N(shift, σ² I)."""
    rng, n = stream(), sizes[-1]
    results = []
    for _ in range(count):
        real = torch.randn(n, dimensions, generator=rng, dtype=torch.float64)
        fake = shift + sigma * torch.randn(n, dimensions, generator=rng, dtype=torch.float64)
        extrapolator = Extrapolator(real, fake, sizes, rng)
        results.append(extrapolator.frechet() if distance == "frechet" else extrapolator.kernel(distance))
    return results


def mean_and_error(values):
    values = np.array(values)
    return values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))


def test_frechet_of_gaussian_features_is_biased_by_its_closed_form():
    """One dimension: E d²(N) = Δ² + (σ² + τ²)(1 + 1/N) - 2στ c4(N)², c4 the bias of the standard deviation."""
    sigma = 1.5
    values, errors = mean_and_error([e.values for e in repeat("frechet", 1, 0.5, sigma, 1000, sizes=[10, 20, 50])])
    for n, value, error in zip([10, 20, 50], values, errors, strict=True):
        c4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
        exact = 0.5**2 + (1 + sigma**2) * (1 + 1 / n) - 2 * sigma * c4**2
        assert abs(value - exact) < 4 * error
    assert 4 * errors[0] < values[0] - 0.5  # the bias of ten images, .40, is seen


def test_the_intercept_removes_the_bias_that_the_value_at_finite_size_has():
    """Eight dimensions, N(0, I) and N(.5, 1.5² I): d² = 4, and the slope is d (σ² + τ²) + στ d (d + 1)/2 = 80.

    Over 300 repetitions at 450 images the value is off by 80/450 = .178, more than nine of its standard errors; the
    intercept is right within four of its own, .02.
    """
    results = repeat("frechet", 8, 0.5, 1.5, 300)
    truth, slope = 8 * (0.5**2 + 0.5**2), 8 * (1 + 1.5**2) + 1.5 * 8 * 9 / 2
    value, value_error = mean_and_error([e.values[-1] for e in results])
    intercept, intercept_error = mean_and_error([e.intercept for e in results])
    assert value - truth == pytest.approx(slope / 450, abs=4 * value_error)
    assert value - truth > 9 * value_error
    assert abs(intercept - truth) < 4 * intercept_error
    assert intercept_error < 0.025
    slopes, slope_error = mean_and_error([e.slope for e in results])
    assert abs(slopes - slope) < 4 * slope_error
    assert slope_error < 0.1 * slope
    assert np.median([e.r_squared for e in results]) > 0.5


@pytest.mark.parametrize(
    ("distance", "dimensions", "sigma", "truth"),
    [
        ("frechet", 4, 1.5, 4 * (0.5**2 + 0.5**2)),
        ("poly", 4, 1.0, exact_poly(4, 0.5)),
        ("rbf", 4, 1.0, exact_rbf(0.25, 4, 0.5)),
    ],
)
def test_the_standard_error_covers(distance, dimensions, sigma, truth):
    """In 400 repetitions ±1.96 standard errors cover the truth in 95 % within four binomial errors of 1.1 %.

    And their mean is the spread of the intercepts to 15 % (a spread from 400 draws is known to 3.5 %).
    """
    results = repeat(distance, dimensions, 0.5, sigma, 400)
    covered = np.mean([abs(e.intercept - truth) < 1.96 * e.standard_error for e in results])
    assert abs(covered - 0.95) < 4 * 0.011
    errors = np.array([e.standard_error for e in results])
    assert errors.mean() == pytest.approx(np.std([e.intercept for e in results]), rel=0.15)
    slope_errors = np.array([e.slope_standard_error for e in results])
    assert slope_errors.mean() == pytest.approx(np.std([e.slope for e in results]), rel=0.15)
    if distance != "frechet":  # the true slope is 0; the error of a regression on them would say so in 37 %
        assert abs(np.mean([e.slope_is_noise for e in results]) - 0.954) < 4 * 0.011


def test_a_clear_slope_is_no_noise():
    """32 dimensions, covariances of 100 images and more: the bias of d² is 8 to 9 standard errors."""
    results = repeat("frechet", 32, 0.1, 1.0, 20)
    assert not any(e.slope_is_noise for e in results)


@pytest.mark.parametrize("distance", ["frechet", "poly"])
def test_the_standard_error_is_safe_where_both_sets_have_one_distribution(distance):
    """There the first order vanishes: the error may be too large, by √2 at most, not too small."""
    results = repeat(distance, 4, 0.0, 1.0, 200)
    spread = np.std([e.intercept for e in results])
    assert 0.95 * spread < np.mean([e.standard_error for e in results]) < 1.1 * math.sqrt(2) * spread


def test_the_line_is_that_of_least_squares():
    """Against numpy's fit; and on exact lines intercept and slope are the line's."""
    values = normal(10).numpy()
    slope, intercept = np.polyfit(1 / np.array(SIZES), values, 1)
    of_intercept, of_slope = (w.numpy() for w in line(SIZES))
    assert [of_intercept @ values, of_slope @ values] == pytest.approx([intercept, slope], rel=1e-9)
    exact = 3 + 500 / np.array(SIZES)
    assert [of_intercept @ exact, of_slope @ exact] == pytest.approx([3, 500], rel=1e-9)


def test_every_size_is_measured_on_its_own_subset():
    """The values on nested subsets are those of the distances computed afresh on them, and R² is the regression's."""
    real, fake = normal(450, 5), 0.3 + normal(450, 5, seed=1)
    extrapolator = Extrapolator(real, fake, SMALL, stream())
    from tests.metrics.test_fidelity import distance  # the metric, in batches

    frechet, poly = extrapolator.frechet(), extrapolator.kernel("poly")
    for k in (0, 4, 9):
        x, y = real[extrapolator.subsets[0][k]], fake[extrapolator.subsets[1][k]]
        assert len(x) == len(y) == SMALL[k]
        assert frechet.values[k] == pytest.approx(distance(x, y), rel=1e-10)
        assert poly.values[k] == pytest.approx(kernels.mmd2(x, y, kernels.poly).item(), rel=1e-10)
    correlation = np.corrcoef(1 / np.array(SMALL), frechet.values)[0, 1]
    assert frechet.r_squared == pytest.approx(correlation**2, rel=1e-6)


def test_nested_subsets_grow_without_copies_and_the_reference_draws_copies():
    nested = subsets(500, SMALL, "nested", stream())
    for small, large in pairwise(nested):
        assert torch.equal(large[: len(small)], small)
    assert len(nested[-1].unique()) == 450
    drawn = subsets(500, SMALL, "with_replacement", stream())
    assert len(drawn[-1].unique()) < 350  # 500 (1 - e^-.9) = 297 in expectation
    assert not torch.equal(drawn[1][:100], drawn[0])


def test_drawing_with_replacement_biases_the_kernel_distance():
    """Copies add (k(x, x) - E k)/M for either set of M images: on one Gaussian (1 - E k)·2/M at every size."""
    results = []
    for i in range(100):
        real, fake = normal(100, 4, seed=2 * i), normal(100, 4, seed=2 * i + 1)
        results.append(Extrapolator(real, fake, [50, 70, 100], stream(i), "with_replacement").kernel("rbf").values)
    value, error = mean_and_error(results)
    exact = 2 / 100 * (1 - 2**-2.0)  # E k = (1 + 4γ)^(-d/2), γ = 1/4
    assert np.all(abs(value - exact) < 4 * error)
    assert np.all(value > 4 * error)


def test_with_replacement_the_same_positions_are_drawn_from_both_sets():
    extrapolator = Extrapolator(normal(90, 3), normal(120, 3), [20, 40, 60], stream(), "with_replacement")
    assert all(torch.equal(*pair) for pair in zip(*extrapolator.subsets, strict=True))
    assert max(int(chosen.max()) for chosen in extrapolator.subsets[0]) < 90
    assert math.isfinite(extrapolator.frechet().standard_error)


@pytest.mark.parametrize("sizes", [[30, 40, 50], list(range(30, 51))])
def test_one_gram_matrix_serves_all_sizes(monkeypatch, sizes):
    """Three blocks, real, generated and across, whatever the number of sizes."""
    calls = []
    monkeypatch.setattr(kernels, "poly", lambda x, y: calls.append((len(x), len(y))) or x @ y.T)
    Extrapolator(normal(50, 3), normal(50, 3, seed=1), sizes, stream()).kernel("poly")
    assert calls == [(50, 50)] * 3


def test_sizes_are_scaled_down_with_a_sentence_or_refused():
    assert np.array_equal(SIZES, np.linspace(1000, 4500, 10).round())  # theory.md, section 6
    assert fit_sizes(4500) == (list(SIZES), None)
    sizes, said = fit_sizes(450)
    assert sizes == [100, 139, 178, 217, 256, 294, 333, 372, 411, 450]
    assert said == "Sizes 1000 to 4500 are scaled down to 100 to 450: there are 450 images of the scarcer set."
    assert fit_sizes(80, [50, 75, 100])[0] == [40, 60, 80]
    assert fit_sizes(200, [100, 50, 75]) == ([50, 75, 100], None)
    for available, wanted, complaint in (
        (49, [50, 75, 100], "There are 49 images, fewer than the smallest size, 50."),
        (20, None, "There are 20 images: too few to extrapolate from."),
        (100, [50, 60], "at least three"),
        (100, [5, 60, 70], "none below 10"),
    ):
        with pytest.raises(ValueError, match=complaint):
            fit_sizes(available, wanted)


def test_faults():
    with pytest.raises(ValueError, match="no protocol 'bootstrap'"):
        subsets(10, [5], "bootstrap", stream())
    with pytest.raises(ValueError, match="50 out of 40 images"):
        subsets(40, [50], "nested", stream())
    bad = normal(60, 2)
    bad[3] = math.inf
    with pytest.raises(ValueError, match="features of image 3 are not finite"):
        Extrapolator(normal(60, 2), bad, [20, 30, 40], stream())
