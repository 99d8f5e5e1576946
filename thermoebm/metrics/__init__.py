"""How good are generated images? Features of images, distances on features, extrapolation to infinitely many."""

from thermoebm.metrics.fidelity import FrechetDistance, KernelDistance
from thermoebm.metrics.kernels import mmd2

__all__ = ["FrechetDistance", "KernelDistance", "mmd2"]
