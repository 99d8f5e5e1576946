"""The maximum mean discrepancy against its closed form for Gaussians, and sums over subsets against loops."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from thermoebm.metrics.kernels import discrepancies, kernel, mmd2, poly, rbf

RBF = partial(rbf, gamma=0.05)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_rbf(gamma, d, shift):
    """MMD² of N(0, I) and N(shift, I): E k = (1 + 4γ)^-d/2 exp(-γ|Δ|²/(1 + 4γ)) for a distance Δ of the means."""
    scale = (1 + 4 * gamma) ** (-d / 2)
    return 2 * scale - 2 * scale * math.exp(-gamma * shift**2 * d / (1 + 4 * gamma))


def exact_poly(d, shift):
    """MMD² of N(0, I) and N(shift, I); given x, xᵀy/d is Gaussian, and E (1 + s)³ = (1 + m)³ + 3 (1 + m) v."""

    def expected(a, b):
        m, spread = a * b, b**2 / d
        return (1 + m) ** 3 + 3 * (1 + m) * spread + 3 * ((1 + m) * (1 + a**2) + 2 * a * b / d) / d

    return expected(0, 0) + expected(shift, shift) - 2 * expected(0, shift)


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize(("function", "exact"), [(RBF, partial(exact_rbf, 0.05)), (poly, exact_poly)])
def test_unbiased_for_gaussians(function, exact, shift):
    """100 repetitions with 100 and 150 samples: the mean is the closed form within 4 standard errors."""
    estimates = torch.stack(
        [mmd2(normal(100, 4, seed=i), shift + normal(150, 4, seed=1000 + i), function) for i in range(100)]
    )
    standard_error = estimates.std() / 10
    assert abs(estimates.mean() - exact(4, shift)) < 4 * standard_error
    assert standard_error < max(2e-3, exact(4, 0.5) / 10)  # a tenth of the distance itself


@pytest.mark.parametrize("name", ["poly", "rbf"])
def test_subsets_are_what_loops_over_pairs_make_of_them(name):
    """Three subsets of each sample, one with copies, and sizes that differ: the U-statistic pair by pair."""
    x, y = normal(7, 3), 1 + normal(5, 3, seed=1)
    counts_x = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1] * 7, [3, 0, 2, 0, 0, 1, 0]]).T
    counts_y = torch.tensor([[1, 1, 1, 0, 0], [1] * 5, [0, 2, 0, 2, 1]]).T
    values = discrepancies(x, y, kernel(name), counts_x, counts_y).values
    for k in range(3):
        a, b = x.repeat_interleave(counts_x[:, k], 0).numpy(), y.repeat_interleave(counts_y[:, k], 0).numpy()
        within = [np.mean([scalar(name, s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
                  for s in (a, b)]  # fmt: skip
        across = np.mean([scalar(name, p, q) for p in a for q in b])
        assert values[k].item() == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def scalar(name, p, q):
    return (p @ q / len(p) + 1) ** 3 if name == "poly" else np.exp(-((p - q) @ (p - q)) / len(p))


def test_influences_are_those_of_leaving_an_image_out():
    """U-statistics: value - value without image i = (influence_i + O(1/N))/(N - 1)."""
    x, y = normal(200, 3), 1 + normal(150, 3, seed=1)
    ones = torch.ones(200, 1), torch.ones(150, 1)
    whole = discrepancies(x, y, poly, *ones)
    for i in (0, 17):
        rest = torch.arange(200) != i
        without = mmd2(x[rest], y, poly)
        assert (199 * (whole.values[0] - without)).item() == pytest.approx(
            whole.influences[0][i, 0].item(), rel=0.02, abs=0.05
        )
        rest = torch.arange(150) != i
        assert (149 * (whole.values[0] - mmd2(x, y[rest], poly))).item() == pytest.approx(
            whole.influences[1][i, 0].item(), rel=0.02, abs=0.05
        )


@pytest.mark.parametrize(("name", "offset", "tolerance"), [("poly", 1e4, 1e-6), ("rbf", 1e5, 1e-9)])
def test_six_digits_remain_far_from_zero_mean(name, offset, tolerance):
    """Features 10,000 and 100,000 times their spread away from 0, against long double."""
    x, y = offset + normal(40, 8), offset + 0.2 + normal(30, 8, seed=1)
    a, b = x.numpy().astype(np.longdouble), y.numpy().astype(np.longdouble)

    def gram(p, q):
        if name == "poly":
            return (p @ q.T / 8 + 1) ** 3
        return np.exp(-((p[:, None] - q[None]) ** 2).sum(-1) / 8)

    within = [(g.sum() - g.trace()) / (len(g) * (len(g) - 1)) for g in (gram(a, a), gram(b, b))]
    truth = float(sum(within) - 2 * gram(a, b).mean())
    assert mmd2(x, y, kernel(name)).item() == pytest.approx(truth, rel=tolerance)


def test_slices_of_the_gram_matrix_change_nothing(monkeypatch):
    x, y = normal(50, 3), normal(40, 3, seed=1)
    ones = torch.ones(50, 1), torch.ones(40, 1)
    whole = discrepancies(x, y, poly, *ones)
    monkeypatch.setattr("thermoebm.metrics.kernels._SLICE", 300)
    sliced = discrepancies(x, y, poly, *ones)
    torch.testing.assert_close([sliced.values, *sliced.influences], [whole.values, *whole.influences])


@pytest.mark.parametrize("function", [poly, rbf])
def test_of_a_sample_with_itself_it_is_negative(function):
    """2 (mean of k off the diagonal - mean of k) = -2/N (mean of k(x, x) - mean of k off the diagonal)."""
    x = normal(50, 4)
    gram = function(x, x)
    diagonal = gram.diagonal().mean()
    across = (gram.sum() - gram.diagonal().sum()) / (50 * 49)
    value = mmd2(x, x, function)
    assert value < 0
    assert value.item() == pytest.approx((-2 / 50 * (diagonal - across)).item(), rel=1e-9)


def test_an_unknown_kernel_is_told():
    with pytest.raises(ValueError, match="There is no kernel 'cubic'; choose 'poly' or 'rbf'"):
        kernel("cubic")
