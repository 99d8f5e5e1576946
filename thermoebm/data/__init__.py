"""LightningDataModules: images in [-1, 1], float32, (C, H, W), one batch a tensor (B, C, H, W)."""

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.digits import Digits
from thermoebm.data.mnist import MNIST

__all__ = ["MNIST", "Digits", "ImageDataModule", "Split"]
