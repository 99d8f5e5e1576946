"""How good images are: features of them, distances on features, extrapolation to infinitely many images.

Nothing here knows where images come from: they are tensors (N, C, H, W).
"""

from thermoebm.metrics.fidelity import FrechetDistance, KernelDistance
from thermoebm.metrics.kernels import mmd2

__all__ = ["FrechetDistance", "KernelDistance", "mmd2"]
