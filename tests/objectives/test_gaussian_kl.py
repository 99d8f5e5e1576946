"""KL terms: the identity that they complete, and their readings."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.oracle import LinearGaussian
from thermoebm import evidence
from thermoebm.objectives import GaussianKL
from thermoebm.objectives.gaussian_kl import gaussian_kl
from thermoebm.schedules import power_law

POWERS = [0.1, 0.3, 1, 3, 6, 10]


def ladder(oracle, power):
    """Temperatures, exact expectations and exact KLs between neighbours."""
    t = power_law(10, power)
    moments = [oracle.moments(v) for v in t.tolist()]
    mean, covariance = (torch.stack([m[i].detach() for m in moments]) for i in (0, 1))
    forward = gaussian_kl(mean[:-1], covariance[:-1], mean[1:], covariance[1:])
    reverse = gaussian_kl(mean[1:], covariance[1:], mean[:-1], covariance[:-1])
    return t, oracle.over(t, "expected_log_likelihood"), forward, reverse


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("power", POWERS)
def test_trapezium_and_difference_are_the_evidence(power, tilted):
    """The exact identity for one image, to round-off, for every schedule; the sum is the right Riemann sum instead."""
    oracle = LinearGaussian(tilted)
    t, expected, forward, reverse = ladder(oracle, power)
    trapezium = evidence.trapezium(t, expected)
    truth = oracle.log_evidence().item()
    difference = trapezium + GaussianKL(combination="difference").combine(forward, reverse)
    total = trapezium + GaussianKL(combination="sum").combine(forward, reverse)
    assert difference.item() == pytest.approx(truth, abs=1e-10)
    assert total.item() == pytest.approx(evidence.bracket(t, expected)[1].item(), abs=1e-10)
    assert total.item() > truth + 0.05
    assert trapezium.item() < truth - 0.05


@pytest.mark.parametrize("correlation", [1.0, 2.0])
def test_what_has_no_density_has_no_divergence(correlation):
    """Not a number for the pair with a covariance that is singular or indefinite, and only for it."""
    mean, fine = torch.zeros(2, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    irregular = fine.clone()
    irregular[1, 0, 1] = irregular[1, 1, 0] = correlation
    for divergence in (gaussian_kl(mean, irregular, mean, fine), gaussian_kl(mean, fine, mean, irregular)):
        assert divergence[0] == 0
        assert divergence[1].isnan()


def test_kl_is_that_of_torch_distributions():
    torch.manual_seed(0)
    mean = torch.randn(2, 4, 5, dtype=torch.float64)
    root = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    covariance = root @ root.mT + 0.1 * torch.eye(5, dtype=torch.float64)
    p, q = (torch.distributions.MultivariateNormal(mean[i], covariance[i]) for i in (0, 1))
    ours = gaussian_kl(mean[0], covariance[0], mean[1], covariance[1])
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(p, q))


def test_terms_are_finite_for_fewer_samples_than_dimensions_and_keep_their_gradient():
    torch.manual_seed(0)
    z = torch.randn(11, 20, 100, requires_grad=True)
    for kl in (GaussianKL(), GaussianKL(combination="sum"), GaussianKL(softmax=True)):
        value = kl(z)
        (gradient,) = torch.autograd.grad(value, z)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("combination", ["difference", "sum"])
def test_the_codes_fit_is_a_ridge_on_the_covariance_of_softmaxed_samples(combination):
    """75 samples in 80 dimensions, rank 74: the value against eigenvalues in numpy, and a finite gradient.

    log det Σ = Σ log λ and Σ⁻¹ = U diag(1/λ) Uᵀ with λ ≥ 1e-5, by numpy's eigh, from numpy's own covariance.
    """
    torch.manual_seed(0)
    z = (torch.randn(4, 75, 80) * torch.tensor([1.0, 1.2, 1.5, 2.0]).view(4, 1, 1)).requires_grad_()
    value = GaussianKL(combination, shrinkage=0.0, softmax=True, ridge=1e-5)(z)
    fits = []
    for rows in z.detach().double().numpy():
        w = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
        fits.append((w.mean(0), *np.linalg.eigh(np.cov(w.T) + 1e-5 * np.eye(80))))
    assert all(9e-6 < eigenvalues[0] < 1.1e-5 for _, eigenvalues, _ in fits)  # singular but for the ridge

    def kl(p, q):
        (m, a, u), (n, b, v) = p, q
        ratio = v.T @ u
        quadratic = (ratio**2 * a / b[:, None]).sum() + ((v.T @ (n - m)) ** 2 / b).sum() - 80
        return (np.log(b).sum() - np.log(a).sum() + quadratic) / 2

    sign = -1 if combination == "difference" else 1
    pairs = list(pairwise(fits))
    assert value.item() == pytest.approx(sum(kl(p, q) + sign * kl(q, p) for p, q in pairs) / 2, rel=1e-8)
    assert torch.autograd.grad(value, z)[0].isfinite().all()


def test_fitted_terms_converge_to_the_exact_ones():
    """200,000 exact draws at two temperatures: the fitted KLs' relative error is of order d/sqrt(n), below 2 %."""
    oracle = LinearGaussian()
    rng = torch.Generator().manual_seed(3)
    z = torch.stack([oracle.sample(t, 200_000, rng) for t in (0.1, 1.0)])
    moments = [oracle.moments(t) for t in (0.1, 1.0)]
    forward, reverse = gaussian_kl(*moments[0], *moments[1]), gaussian_kl(*moments[1], *moments[0])
    for combination, exact in (("sum", (forward + reverse) / 2), ("difference", (forward - reverse) / 2)):
        fitted = GaussianKL(combination=combination, shrinkage=0.0)(z)
        assert fitted.item() == pytest.approx(exact.item(), rel=0.02)


def test_readings_of_the_fit():
    torch.manual_seed(0)
    z = torch.randn(3, 50, 4) @ torch.randn(4, 4)
    mean, covariance = GaussianKL(shrinkage=0.0).fit(z)
    torch.testing.assert_close(covariance[0], torch.cov(z[0].double().T))
    torch.testing.assert_close(mean, z.double().mean(1))
    _, diagonal = GaussianKL(covariance="diagonal", shrinkage=0.0).fit(z)
    torch.testing.assert_close(diagonal[0], torch.diag(torch.cov(z[0].double().T).diagonal()))
    _, shrunk = GaussianKL(shrinkage=1.0).fit(z)
    torch.testing.assert_close(shrunk[0], covariance[0].diagonal().mean() * torch.eye(4, dtype=torch.float64))
    mean, _ = GaussianKL(softmax=True).fit(z)
    torch.testing.assert_close(mean.sum(-1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("fields", "samples"),
    [({"shrinkage": 0.0}, 4), ({"shrinkage": 0.0, "softmax": True}, 50), ({}, 1), ({"ridge": 1e-5}, 1)],
)
def test_a_singular_covariance_is_refused(fields, samples):
    with pytest.raises(ValueError, match="singular covariance"):
        GaussianKL(**fields)(torch.randn(2, samples, 4))


@pytest.mark.parametrize(
    "fields",
    [
        {"combination": "minus"},
        {"covariance": "low rank"},
        {"shrinkage": 1.5},
        {"ridge": -1e-5},
        {"ridge": float("inf")},
        {"ridge": float("nan")},
    ],
)
def test_unknown_readings_are_refused(fields):
    with pytest.raises(ValueError, match=str(next(iter(fields.values())))):
        GaussianKL(**fields)
