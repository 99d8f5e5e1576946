"""Latent-space energy-based models trained by maximum likelihood or thermodynamic integration."""

from thermoebm.runtime import torchvision as _torchvision  # noqa: F401  (before anything that imports torchvision)

__version__ = "0.1.0"
