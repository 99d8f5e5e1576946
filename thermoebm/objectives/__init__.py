"""What is learned from the samples: objectives and their gradient estimators."""

from thermoebm.objectives.base import Model, Objective, Output
from thermoebm.objectives.gaussian_kl import GaussianKL
from thermoebm.objectives.maximum_likelihood import MaximumLikelihood
from thermoebm.objectives.thermodynamic import ThermodynamicIntegration

__all__ = ["GaussianKL", "MaximumLikelihood", "Model", "Objective", "Output", "ThermodynamicIntegration"]
