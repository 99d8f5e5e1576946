"""Independent draws of a learning gradient at frozen parameters, on any images; the module stays unchanged."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader

from thermoebm.gradients.statistics import Decomposition, Design
from thermoebm.runtime.progress import bar

#: Maps what a loader yields, images (B, C, H, W) or tuples with them, and a stream for all of its noise, to a scalar.
Loss = Callable[[Any, torch.Generator], Tensor]


def measure(
    loss: Loss,
    module: nn.Module,
    loader: DataLoader[Any],
    noise: torch.Generator,
    order: torch.Generator,
    design: Design = Design(),  # noqa: B008  (frozen)
    *,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    dtype: torch.dtype = torch.float32,
    observe: Callable[[list[Tensor]], None] | None = None,
    title: str | None = None,
) -> Decomposition:
    """The ``per_parameter`` variance of a loss's gradient, and its split into data and sampler noise.

    Mini-batches have the loader's batch size, and the module stays in its current mode (training or evaluation). Each
    mini-batch is drawn without replacement, as in training, and independently of the others, as the estimators require
    (the batches of one epoch share no image and so are not independent). Parameters, their ``.grad``, buffers, modes
    and torch's random state are the same afterwards as before. For held-out images, pass a loaded model and their
    loader:

        model = thermoebm.load(path)
        noise, order = model.stream("noise"), model.stream("order")
        report = measure(model.loss, model, datamodule.test_dataloader(), noise, order).report()
        report["generator"]["total"].value, report["generator"]["total"].standard_error

    Args:
        loss: Maps a batch and a stream to the loss; the batch is on the module's device.
        module: The module whose trainable parameters the gradient is taken for.
        loader: Its data set, batch size and collation are used, its order is not.
        noise: Stream of the loss's noise, on the module's device; every draw advances it.
        order: Stream that selects the images; only its initial seed is used.
        design: Numbers of mini-batches, repetitions and blocks.
        context: Context entered around each evaluation of the loss, for instance autocast.
        dtype: Data type of the streaming buffers.
        observe: Called with every draw; its tensors are overwritten afterwards.
        title: Title of the progress bar; None for no bar.

    Returns:
        The decomposition of the variance, from ``num_batches`` times ``repetitions`` draws.

    Raises:
        ValueError: If the loader has no batch size, or a batch takes more images than there are.
    """
    state = Decomposition(list(trainable(module)), design, dtype)
    draws = bar(design.num_batches * design.repetitions, title, "gradient")
    with isolate_rng(include_cuda=noise.device.type == "cuda"), draws as progress:
        torch.manual_seed(noise.initial_seed())  # for layers like dropout, which draw from torch's own generator
        for x in _batches(loader, design.num_batches, order.initial_seed()):
            x = move_data_to_device(x, noise.device)
            for _ in range(design.repetitions):
                gradient = draw_gradient(loss, module, x, noise, context)
                if observe is not None:
                    observe(gradient)
                state.update(gradient)
                progress.update()
    return state


def draw_gradient(
    loss: Loss,
    module: nn.Module,
    x: Any,
    noise: torch.Generator,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[Tensor]:
    """Draws one gradient, in its own memory; buffers such as running statistics are restored, so all draws are alike.

    Args:
        loss, module, noise, context: As in :func:`measure`.
        x: A batch, on the module's device.

    Returns:
        The gradient of each tensor of :func:`trainable`, in its order and shape.
    """
    with _restored(module), torch.enable_grad():
        with context():
            value = loss(x, noise)
        # Not backward(): it would add to .grad and start DDP's reduction. A parameter outside the graph has gradient 0.
        parameters = list(trainable(module).values())
        found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    gradient = [g.detach() for g in found]  # zeros of what is unused require a gradient on torch 2.6
    taken: set[int] = set()
    own = []
    for g in gradient:
        shared = g.data_ptr() in taken or not g.is_contiguous()
        taken.add(g.data_ptr())
        own.append(g.clone(memory_format=torch.contiguous_format) if shared else g)
    return own


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, in the module's order; a gradient has one tensor for each of them."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _batches(loader: DataLoader[Any], count: int, seed: int) -> Iterator[Any]:
    """Independent mini-batches of a loader's data set."""
    dataset: Any = loader.dataset
    size, available = loader.batch_size, len(dataset)
    if size is None or size > available:
        raise ValueError(f"Gradient variance: a batch of {size} cannot be drawn from {available} images.")
    rng = torch.Generator().manual_seed(seed)
    indices = [torch.randperm(available, generator=rng)[:size].tolist() for _ in range(count)]
    yield from DataLoader(dataset, batch_sampler=indices, collate_fn=loader.collate_fn)


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Restores buffers and training modes on exit."""
    modes = [(m, m.training) for m in module.modules()]
    buffers = [(m, name, b, b.clone()) for m in module.modules() for name, b in m.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training
        with torch.no_grad():
            for m, name, buffer, saved in buffers:
                setattr(m, name, buffer.copy_(saved))
