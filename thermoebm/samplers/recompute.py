"""Steps of a chain that keep what they start from and nothing else: for the backward pass they are computed again."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recomputed(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``function(*inputs)``, whose graph is not kept but made again when its gradient is wanted.

    ``torch.utils.checkpoint`` does not do that here: a step contains a gradient, the score, for which it computes the
    step a second time in the forward pass already, and keeps that.

    Args:
        function: A pure function of its inputs and of parameters.
        inputs: Its arguments.
        parameters: What else its gradient flows to.

    Returns:
        What the function returns, of any shapes. It can be differentiated once, and not twice.
    """
    outputs: tuple[Tensor, ...] = _Recomputed.apply(function, len(inputs), *inputs, *parameters)
    return outputs


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], count: int, *tensors: Tensor) -> Any:
        device = tensors[0].device.type
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
