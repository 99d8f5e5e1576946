"""The likelihood in half precision: its weights are rounded once for a whole chain."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from thermoebm.densities import GaussianLikelihood


def rounded(likelihood: GaussianLikelihood, device_type: str) -> GaussianLikelihood:
    """The likelihood; under autocast, with weights that are already rounded to the autocast data type."""
    if not torch.is_autocast_enabled(device_type) or not isinstance(likelihood.generator, nn.Module):
        return likelihood
    network = _Network(likelihood.generator, torch.get_autocast_dtype(device_type))
    return GaussianLikelihood(network, likelihood.sigma)


class _Network:
    """A network whose matrices and convolution kernels have been rounded to the data type of autocast.

    Autocast itself caches rounded weights only while gradients of the weights are needed. On CUDA the kernels are laid
    out with their channels last, which saves cuDNN a tenth of the time (docs/performance.md).
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        self.weights = {name: _rounded(p.detach(), dtype) for name, p in network.named_parameters() if p.dim() > 1}

    def __call__(self, z: Tensor) -> Tensor:
        return functional_call(self.network, self.weights, z)


def _rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    channels_last = weight.is_cuda and weight.dim() == 4
    return weight.to(dtype, memory_format=torch.channels_last if channels_last else torch.preserve_format)
