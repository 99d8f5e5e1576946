"""The penalty on energies: its gradient with exact samples in closed form, and where it cannot be."""

import math

import numpy
import pytest
import torch

from tests.objectives.test_objectives import ALPHA, assert_agrees, estimate, exact_gradient
from tests.oracle import LinearGaussian, flat
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration

PENALTY = 0.2


def squares_gradient(oracle):
    """∇(E_1[f²] + E_0[f²]) at fixed laws, by six Gauss-Hermite nodes on each axis, which is exact here."""
    points, mass = map(torch.from_numpy, numpy.polynomial.hermite_e.hermegauss(6))
    mass, total = mass / mass.sum(), 0.0
    grid = torch.cartesian_prod(points, points, points)
    share = torch.cartesian_prod(mass, mass, mass).prod(-1)
    for t in (1.0, 0.0):
        mean, covariance = (part.detach() for part in oracle.moments(t))
        z = mean + grid @ torch.linalg.cholesky(covariance).T
        total = total + (share * oracle.energy(z).square()).sum()
    return flat(torch.autograd.grad(total, oracle.parameters, materialize_grads=True))


@pytest.mark.parametrize("objective", [MaximumLikelihood, ThermodynamicIntegration])
def test_gradient_is_that_of_the_likelihood_less_that_of_the_penalty(objective):
    oracle = LinearGaussian(True)
    mean, error, _ = estimate(objective(energy_penalty=PENALTY), oracle)
    penalty = PENALTY * squares_gradient(oracle)
    assert_agrees(mean, error, exact_gradient(oracle) - penalty)
    assert (penalty[ALPHA].abs() > 9 * error[ALPHA]).any()  # or it would not have shown
    assert not penalty[ALPHA.stop :].any()


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize("objective", [MaximumLikelihood, ThermodynamicIntegration])
def test_a_penalty_that_cannot_be_one_is_refused(objective, value):
    with pytest.raises(ValueError, match=f"{objective.__name__}: energy_penalty is"):
        objective(energy_penalty=value)


@pytest.mark.parametrize("estimator", ["detached", "pathwise"])
def test_estimators_that_it_would_not_change_refuse_it(estimator):
    with pytest.raises(ValueError, match=f"{estimator} has no contrast of energies"):
        ThermodynamicIntegration(estimator, energy_penalty=0.1)
