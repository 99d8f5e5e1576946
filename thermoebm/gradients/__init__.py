"""Statistics of learning gradients."""

from thermoebm.gradients.draws import draw_gradient, measure
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
]
