"""Training objectives and their gradient estimators.

An objective maps a model, a batch and a random stream to a loss; its docstring states the gradient of the loss.
"""

from thermoebm.objectives.base import Model, Objective, Output
from thermoebm.objectives.gaussian_kl import GaussianKL
from thermoebm.objectives.maximum_likelihood import MaximumLikelihood
from thermoebm.objectives.thermodynamic import ThermodynamicIntegration
from thermoebm.objectives.triangle import Noise, Triangle

__all__ = [
    "GaussianKL",
    "MaximumLikelihood",
    "Model",
    "Noise",
    "Objective",
    "Output",
    "ThermodynamicIntegration",
    "Triangle",
]
