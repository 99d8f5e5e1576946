"""Recomputation of chain steps in the backward pass: of each step only its inputs are stored."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recomputed(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``function(*inputs)``, whose graph is not stored but recomputed in the backward pass.

    ``torch.utils.checkpoint`` does not achieve this here. A step contains a gradient, the score; to compute it,
    ``checkpoint`` recomputes the step already in the forward pass, and keeps the result.

    Args:
        function: A pure function of its inputs and of the parameters.
        inputs: Arguments of the function.
        parameters: Further tensors that the gradient flows to.

    Returns:
        The outputs of the function, of any shapes. They can be differentiated once, not twice.
    """
    outputs: tuple[Tensor, ...] = _Recomputed.apply(function, len(inputs), *inputs, *parameters)
    return outputs


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], count: int, *tensors: Tensor) -> Any:
        device = "cpu" if tensors[0].is_meta else tensors[0].device.type  # without values there is no autocast
        ctx.function, ctx.count = function, count
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return function(*tensors[:count])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[2:]
        tensors = [
            tensor.detach().requires_grad_(want) if i < ctx.count else tensor
            for i, (tensor, want) in enumerate(zip(ctx.saved_tensors, wanted, strict=True))
        ]
        with torch.enable_grad(), torch.autocast(*ctx.autocast):
            outputs = ctx.function(*tensors[: ctx.count])
        pairs = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in pairs],
                [tensor for tensor, want in zip(tensors, wanted, strict=True) if want],
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
        )
        return None, None, *(next(found) if want else None for want in wanted)
