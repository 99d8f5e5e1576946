"""Quality of generated images: features, distances on features, extrapolation to infinitely many images.

Images are tensors (N, C, H, W) of any origin.
"""

from thermoebm.metrics.fidelity import FrechetDistance, KernelDistance
from thermoebm.metrics.kernels import mmd2

__all__ = ["FrechetDistance", "KernelDistance", "mmd2"]
