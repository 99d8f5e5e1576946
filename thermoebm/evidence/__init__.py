"""Estimates of the log-evidence log p_θ(x).

From the log-likelihoods measured on a temperature ladder, or from chains that are annealed along one; they need
densities and kernels, not the model.
"""

from thermoebm.evidence.annealing import Annealed, Runner, anneal, directly
from thermoebm.evidence.exchange import Ladder, exchange_ladder
from thermoebm.evidence.quadrature import bracket, second_order, stepping_stone, trapezium, trapezium_weights
from thermoebm.evidence.weights import Weighed, resampled, weigh

__all__ = [
    "Annealed",
    "Ladder",
    "Runner",
    "Weighed",
    "anneal",
    "bracket",
    "directly",
    "exchange_ladder",
    "resampled",
    "second_order",
    "stepping_stone",
    "trapezium",
    "trapezium_weights",
    "weigh",
]
