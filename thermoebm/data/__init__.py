"""LightningDataModules: images in [-1, 1], float32, (C, H, W), one batch a tensor (B, C, H, W)."""

from thermoebm.data.base import ImageDataModule
from thermoebm.data.digits import Digits

__all__ = ["Digits", "ImageDataModule"]
