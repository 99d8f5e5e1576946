"""How a density is sampled: Markov chain Monte Carlo kernels and the one loop that runs them.

A kernel is a pure function of state and noise; the loop alone knows of compilation and of differentiation.
"""

from thermoebm.samplers.base import Kernel, run
from thermoebm.samplers.ula import ULA

__all__ = ["ULA", "Kernel", "run"]
