"""Markov chain Monte Carlo kernels and the loop that runs them.

A kernel is a pure function of state and noise; only the loop handles compilation and
differentiation, and only the recorder CUDA graphs.
"""

from thermoebm.samplers.base import Kernel, compilations, run
from thermoebm.samplers.recorded import Recorder
from thermoebm.samplers.ula import ULA

__all__ = ["ULA", "Kernel", "Recorder", "compilations", "run"]
