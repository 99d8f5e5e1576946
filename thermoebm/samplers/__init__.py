"""Markov chain Monte Carlo kernels and the one loop that runs them."""

from thermoebm.samplers.base import Kernel, run
from thermoebm.samplers.ula import ULA

__all__ = ["ULA", "Kernel", "run"]
