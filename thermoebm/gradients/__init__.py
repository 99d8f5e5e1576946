"""The variance of the learning gradient: draws at frozen parameters, their moments, and three quantities of that name.

The functions take any loss and the ``nn.Module`` that it trains; neither has to come from this package.
"""

from thermoebm.gradients.draws import draw_gradient, measure, trainable
from thermoebm.gradients.moments import Gradient, Moments
from thermoebm.gradients.statistics import (
    Decomposition,
    Design,
    Estimate,
    RunningNoiseScale,
    across_parameters,
    networks,
)

__all__ = [
    "Decomposition",
    "Design",
    "Estimate",
    "Gradient",
    "Moments",
    "RunningNoiseScale",
    "across_parameters",
    "draw_gradient",
    "measure",
    "networks",
    "trainable",
]
