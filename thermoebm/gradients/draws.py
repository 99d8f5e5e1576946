"""Independent draws of a model's learning gradient at frozen parameters, on any images, that leave no trace in it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader

from thermoebm.gradients.statistics import Decomposition, Design
from thermoebm.modules import LatentEBM


def measure(
    model: LatentEBM,
    loader: DataLoader[Any],
    design: Design = Design(),  # noqa: B008  (frozen)
    *,
    name: str = "gradient variance",
    counters: tuple[int, ...] = (),
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    dtype: torch.dtype = torch.float32,
    observe: Callable[[list[Tensor]], None] | None = None,
) -> Decomposition:
    """The ``per_parameter`` gradient variance of the model's objective, and its split into data and sampler noise.

    The gradient is that of ``model.objective`` on a batch of the loader's size, in the mode that the model is in. Each
    mini-batch is drawn without replacement, as in training, and independently of the others, as the estimators need
    (batches of one epoch exclude one another's images). Parameters, their ``.grad``, buffers, modes and torch's random
    state are afterwards what they were before. For held-out images, give a loaded model and their loader:

        report = measure(runs.load_model(path), datamodule.test_dataloader()).report()
        report["generator"]["total"].value, report["generator"]["total"].standard_error

    Args:
        model: The model, on the device where it is to be measured.
        loader: Its data set, batch size and collation are used, its order is not.
        design: How many mini-batches, repetitions and blocks.
        name, counters: Of the model's streams that order and noise are drawn from; other names, other draws.
        context: Entered around each loss, for instance autocast.
        dtype: Of the streamed buffers.
        observe: Is given every draw, whose tensors are overwritten afterwards.

    Raises:
        ValueError: If the loader has no batch size, or a batch takes more images than there are.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    state = Decomposition(list(parameters), design, dtype)
    noise = model.stream(name, *counters)
    with isolate_rng(include_cuda=model.device.type == "cuda"):
        torch.manual_seed(noise.initial_seed())  # for layers like dropout, which draw from torch's own generator
        for x in _batches(loader, design.num_batches, model.stream(f"{name} data", *counters).initial_seed()):
            x = x.to(model.device)
            for _ in range(design.repetitions):
                gradient = draw_gradient(model, list(parameters.values()), x, noise, context)
                if observe is not None:
                    observe(gradient)
                state.update(gradient)
    return state


def draw_gradient(
    model: LatentEBM,
    parameters: list[nn.Parameter],
    x: Tensor,
    noise: torch.Generator,
    context: Callable[[], AbstractContextManager[Any]],
    step: int | None = None,
) -> list[Tensor]:
    """One draw, in memory of its own; what running statistics it moved is moved back, so that all draws are alike.

    With a step, everything that this training step computes is computed, and not only what the gradient needs.
    """
    with _restored(model), torch.enable_grad():
        with context():
            loss = model.objective(model, x, noise, step=step).loss
        # Not backward, which would add to .grad and start DDP's reduction. A parameter outside the graph counts as 0.
        gradient = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    taken: set[int] = set()
    own = []
    for g in gradient:
        shared = g.data_ptr() in taken or not g.is_contiguous()
        taken.add(g.data_ptr())
        own.append(g.clone(memory_format=torch.contiguous_format) if shared else g)
    return own


def _batches(loader: DataLoader[Any], count: int, seed: int) -> Iterator[Tensor]:
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
    """Buffers and training modes are afterwards what they were before."""
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
