"""Distances between sets of images."""

from thermoebm.metrics.mmd import rbf_mmd2

__all__ = ["rbf_mmd2"]
