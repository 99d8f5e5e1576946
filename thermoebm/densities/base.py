"""The interface of a density, and gradients in its latents in every mode of torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


def without_autocast(z: Tensor) -> AbstractContextManager[Any]:
    """Computes in the precision of z; tensors of the ``meta`` device, which have no values, know no autocast."""
    return nullcontext() if z.is_meta else torch.autocast(z.device.type, enabled=False)


class Terms(NamedTuple):
    """The terms that a log-density is a weighted sum of, at some latents; a temperature is a weight, not a term.

    Args:
        values: (P, ...), in nats.
        gradients: Their gradients in z, (P, ..., d).
    """

    values: Tensor
    gradients: Tensor


class Density(ABC):
    """A density on latents, which may be unnormalised (``log_prob`` then says so)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Maps z (..., d) to its log-density (...), in nats."""

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the density's networks; a plain function, not an ``nn.Module``, contributes none."""
        return []

    def score(self, z: Tensor) -> Tensor:
        """∇_z log_prob(z), of the shape of z.

        Under ``no_grad`` it is a plain tensor. Otherwise it carries the graph to the density's parameters, and to z if
        z requires a gradient (double backward). In both cases the ``.grad`` of the parameters is not touched.
        """
        return gradient(self.log_prob, z)

    def terms(self, z: Tensor) -> Terms:
        """The terms of log_prob(z) and their gradients, without a graph: one pass through each network, and back."""
        value, gradient = value_and_gradient(self.log_prob, z)
        return Terms(value.unsqueeze(0), gradient.unsqueeze(0))

    def combine(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """log_prob (...) and score (..., d) from the terms."""
        return terms.values[0], terms.gradients[0]


@cache
def inference_mode_has_gradients() -> bool:
    """Whether torch.func.grad works in inference mode: on torch 2.6 it is zero, without a word."""
    with torch.inference_mode():
        return torch.func.grad(torch.square)(torch.ones(())).item() == 2


def gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """∇_z Σ function(z), of the shape of z."""
    wanted = torch.is_grad_enabled()
    # Of the two ways below, only torch.func.grad can be compiled and works in inference mode. On small networks it
    # takes nearly twice as long as autograd.grad.
    compiling = torch.compiler.is_compiling()
    inference = not compiling and torch.is_inference_mode_enabled()
    if not wanted and (compiling or (inference and inference_mode_has_gradients())):
        return torch.func.grad(lambda z: function(z).sum())(z)
    if inference:
        with torch.inference_mode(False), torch.no_grad():
            return gradient(function, z.clone())
    with torch.enable_grad():
        z = z if wanted and z.requires_grad else z.detach().requires_grad_()
        return torch.autograd.grad(function(z).sum(), z, create_graph=wanted)[0]


def value_and_gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """function(z) and ∇_z Σ function(z), both without a graph; the ways are those of :func:`gradient`."""
    compiling = torch.compiler.is_compiling()
    inference = not compiling and torch.is_inference_mode_enabled()
    if compiling or (inference and inference_mode_has_gradients()):

        def summed(z: Tensor) -> tuple[Tensor, Tensor]:
            value = function(z)
            return value.sum(), value

        gradient, value = torch.func.grad(summed, has_aux=True)(z)
        return value, gradient
    if inference:
        with torch.inference_mode(False), torch.no_grad():
            return value_and_gradient(function, z.clone())
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = function(z)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def parameters_of(function: Callable[..., Tensor]) -> list[nn.Parameter]:
    return list(function.parameters()) if isinstance(function, nn.Module) else []
