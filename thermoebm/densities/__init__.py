"""The densities of the model, as objects with ``log_prob`` and its exact gradient ``score``.

Shapes: a latent z is (..., d) and a log-density (...). Energies and log-densities are in nats and stay in the precision
of z (float32 or float64) under autocast; only the generator may run in a lower precision.
"""

from thermoebm.densities.base import Density, Terms, inference_mode_has_gradients, without_autocast
from thermoebm.densities.inference import DiagonalGaussian, InferredPosterior, inferred
from thermoebm.densities.likelihood import GaussianLikelihood
from thermoebm.densities.priors import GaussianPrior, TiltedPrior
from thermoebm.densities.tempered import PowerPosterior, Tempered, TemperedPrior

__all__ = [
    "Density",
    "DiagonalGaussian",
    "GaussianLikelihood",
    "GaussianPrior",
    "InferredPosterior",
    "PowerPosterior",
    "Tempered",
    "TemperedPrior",
    "Terms",
    "TiltedPrior",
    "inference_mode_has_gradients",
    "inferred",
    "without_autocast",
]
