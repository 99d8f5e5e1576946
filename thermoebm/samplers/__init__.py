"""Markov chain Monte Carlo kernels and the loop that runs them.

A kernel is a pure function of state and noise; only the loop handles compilation and
differentiation, and only the recorder CUDA graphs.
"""

from thermoebm.samplers.base import Kernel, check_differentiable, compilations, run
from thermoebm.samplers.curvature import largest_curvature, secant_curvature
from thermoebm.samplers.diagnostics import (
    autocorrelation,
    effective_sample_size,
    pooled_autocorrelation,
    split_rhat,
)
from thermoebm.samplers.exchange import ReplicaExchange
from thermoebm.samplers.mala import MALA, StepSizes, corrected_acceptance
from thermoebm.samplers.pilot import Pilot, run_pilot
from thermoebm.samplers.recorded import Recorder
from thermoebm.samplers.ula import ULA

__all__ = [
    "MALA",
    "ULA",
    "Kernel",
    "Pilot",
    "Recorder",
    "ReplicaExchange",
    "StepSizes",
    "autocorrelation",
    "check_differentiable",
    "compilations",
    "corrected_acceptance",
    "effective_sample_size",
    "largest_curvature",
    "pooled_autocorrelation",
    "run",
    "run_pilot",
    "secant_curvature",
    "split_rhat",
]
