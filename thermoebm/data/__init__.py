"""LightningDataModules for the supported data sets and for the user's own images.

Images are float32 in [-1, 1], (C, H, W), and one batch is a tensor (B, C, H, W).
"""

from thermoebm.data.arrays import Arrays
from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.celeba import CelebA
from thermoebm.data.cifar10 import CIFAR10
from thermoebm.data.digits import Digits
from thermoebm.data.mnist import MNIST
from thermoebm.data.names import named
from thermoebm.data.own import ImageFolder
from thermoebm.data.svhn import SVHN

__all__ = ["CIFAR10", "MNIST", "SVHN", "Arrays", "CelebA", "Digits", "ImageDataModule", "ImageFolder", "Split", "named"]
