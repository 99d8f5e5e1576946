"""Evaluation of a trained model: distances of its samples to real images, short-run evidence, reconstructions."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from thermoebm import evidence
from thermoebm.callbacks.gradient_variance import AcrossParameters, report_scalars
from thermoebm.callbacks.grids import reconstruction_grid
from thermoebm.data import ImageDataModule, named
from thermoebm.gradients.draws import measure, trainable
from thermoebm.metrics import features
from thermoebm.metrics.extrapolation import Extrapolation, Protocol, fit_sizes
from thermoebm.metrics.features import Extractor
from thermoebm.metrics.fidelity import inception_score, mifid
from thermoebm.metrics.summary import summarise
from thermoebm.modules import LatentEBM, generation
from thermoebm.runs import checkpoints
from thermoebm.runtime import randomness
from thermoebm.runtime.progress import bar

# Images in a batch of chains. The results for a given seed depend on it.
_BATCH = 100

# The levels of images in [-1, 1] are 1/127.5 apart.
_LEVELS_PER_UNIT = 127.5


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation.

    Args:
        num_samples: Number of generated images, and maximum number of real images they are compared with.
        extractor: Name of the features; see :mod:`thermoebm.metrics.features`.
        split: Real images that samples are compared with: the held-out (``test``) or the training images (``train``).
        sizes: Sample sizes of the extrapolation; None: the report's ten, scaled down where images are fewer.
        protocol: How subsets are drawn.
        evidence_images: Maximum number of held-out images whose evidence is measured.
        seed: Seed of all noise and subsets.
        device: Device of the computation.
        gradient_variance: Measure the variance of the learning gradient on held-out images too.
        root: Folder or file of the real images; None: the same as in training.
        download: Whether missing data sets may be downloaded; the checkpoint's config must allow it too.
    """

    num_samples: int = 4500
    extractor: str = "classifier"
    split: Literal["test", "train"] = "test"
    sizes: tuple[int, ...] | None = None
    protocol: Protocol = "nested"
    evidence_images: int = 1000
    seed: int = 0
    device: str = "cpu"
    gradient_variance: bool = False
    root: str | None = None
    download: bool = True

    def stream(self, name: str, *counters: int) -> torch.Generator:
        """The random stream for one named use."""
        return randomness.stream(self.device, self.seed, f"evaluate {name}", *counters)


def gradient_variance(model: LatentEBM, data: ImageDataModule, settings: Settings) -> dict[str, float]:
    """The gradient variances of held-out batches, under the names that training logs.

    See :class:`thermoebm.callbacks.GradientVariance`; ``across_parameters`` is averaged over the draws that
    ``per_parameter`` is estimated from.
    """
    across = AcrossParameters(list(trainable(model)))
    name = "evaluate gradient variance"
    noise, order = model.stream(name, settings.seed), model.stream(f"{name} data", settings.seed)
    state = measure(
        model.loss, model, data.test_dataloader(), noise, order, observe=across.update, title="gradient variance"
    )
    return across.scalars() | report_scalars(state.report(), state.names)


class Reference(NamedTuple):
    """Real images to compare samples with, their feature extractor, subset sizes, and remarks in sentences."""

    real: Tensor
    extractor: Extractor
    sizes: list[int]
    remarks: list[str]


class Fidelity(NamedTuple):
    """Distances of samples to real images: scalars by name, the lines fitted to them, and remarks in sentences."""

    scalars: dict[str, float]
    lines: dict[str, Extrapolation]
    remarks: list[str]


def check(settings: Settings) -> None:
    """Checks settings as far as possible before any model or image is loaded.

    Raises:
        ValueError: If there is no such device or extractor, the seed is negative, or the sizes are unsuitable.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device here; use --device cpu or auto.")
    if settings.seed < 0:
        raise ValueError(f"seed is {settings.seed}; give a number of at least 0.")
    fit_sizes(settings.num_samples, settings.sizes)
    if not settings.extractor.startswith("classifier"):  # which may need the data set
        features.extractor(settings.extractor)


def load(path: Path, settings: Settings) -> tuple[LatentEBM, ImageDataModule]:
    """The model of a checkpoint and its data set; needs only the checkpoint and the data.

    Raises:
        ValueError: If either cannot be loaded.
    """
    fields = ({"root": settings.root} if settings.root else {}) | ({} if settings.download else {"download": False})
    model, data = checkpoints.load_model(path).to(settings.device), checkpoints.load_data(path, **fields)
    data.prepare_data()
    data.setup()
    model.check_images(data.image_shape)
    return model, data


def samples(model: LatentEBM, settings: Settings) -> Tensor:
    """Generated images (num_samples, C, H, W); for a given seed they do not depend on what else is measured."""
    return generation.draw(model, settings.num_samples, lambda i: settings.stream("samples", i), "samples")


def reference(data: ImageDataModule, settings: Settings) -> Reference:
    """Chooses the real images and tries the extractor on one of them, before anything is sampled.

    Raises:
        ValueError: If there are too few images, or the extractor is unavailable or does not accept them.
    """
    split = data.held_out_images if settings.split == "test" else data.train_images
    order = torch.randperm(len(split), generator=randomness.stream("cpu", settings.seed, "evaluate real"))
    real = split[order[: settings.num_samples]]
    sizes, scaled = fit_sizes(min(len(real), settings.num_samples), settings.sizes)
    extractor = features.extractor(settings.extractor, partial(named, own=data))
    extractor(real[:1].to(settings.device))
    return Reference(real, extractor, sizes, [scaled] if scaled else [])


def fidelity(fake: Tensor, reference: Reference, settings: Settings) -> Fidelity:
    """Distances of generated images (N, C, H, W) to real ones.

    Raises:
        ValueError: If the extractor's features have a wrong shape or are not finite.
    """
    real, extractor, sizes, scaled = reference
    x = extractor.of_real(real, fake.device, "features of real images")
    y = extractor(fake, "features of samples")
    names = extractor.distance_names
    scalars, lines, remarks = summarise(x, y, names, sizes, settings.stream("subsets"), settings.protocol)
    if settings.split == "train":  # only training images can be memorised
        scalars[names.mifid] = mifid(x, y).item()
    if extractor.head is not None:
        mean, deviation = inception_score(extractor.head(y).cpu())
        scalars |= {names.score: mean.item(), f"{names.score}_sd": deviation.item()}
    return Fidelity(scalars | {"real_images": len(real)}, lines, scaled + remarks)


@torch.no_grad()
def held_out(model: LatentEBM, data: ImageDataModule, settings: Settings) -> dict[str, Any]:
    """Means over held-out images: reconstruction error, and short-run evidence of uniformly dequantised images.

    ``short_run_evidence`` (trapezium), ``left_sum`` and ``right_sum`` estimate the log-density per image in nats from
    short chains: no bound, and no bracket. ``short_run_bits_per_dimension`` is the first as -log2 p/D +
    log2 127.5; with the true log p it would bound the cost of the eight-bit images from above (Theis et al. 2016).
    """
    images = data.held_out_images[: settings.evidence_images]
    logs: list[Tensor] = []
    squared = 0.0
    with bar(len(images), "short-run evidence", "image") as progress:
        for i, batch in enumerate(images.split(_BATCH)):
            levels = batch.to(model.device).float()
            x = levels / _LEVELS_PER_UNIT - 1
            reconstruction = model.reconstruct(x, settings.stream("reconstructions", i))
            squared += (x - reconstruction).double().square().sum().item()
            noise = torch.rand(levels.shape, generator=settings.stream("dequantisation", i), device=levels.device)
            dequantised = (levels + noise - 0.5) / _LEVELS_PER_UNIT - 1
            t, ell = model.ladder(dequantised, model.evidence_schedule, settings.stream("evidence", i))
            t, ell = t.double(), ell.double()
            logs.append(torch.stack([evidence.trapezium(t, ell), *evidence.bracket(t, ell)]).cpu())
            progress.update(len(batch))
    each = torch.cat(logs, 1)
    means = each.mean(1).tolist()
    result: dict[str, Any] = {
        "reconstruction_error": squared / images.numel(),
        **dict(zip(("short_run_evidence", "left_sum", "right_sum"), means, strict=True)),
        "short_run_evidence_se": (each[0].std() / math.sqrt(len(images))).item(),
        "short_run_bits_per_dimension": bits_per_dimension(means[0], images[0].numel()),
    }
    counts = {"evidence_images": len(images), "held_out_images": len(data.held_out_images)}
    return result | counts | {"chains": chains(model)}


def bits_per_dimension(log_density: float, dimensions: int) -> float:
    """-log2 p/D + log2 127.5 for the log-density, in nats, of an image of D dimensions dequantised in [-1, 1]."""
    return -log_density / (dimensions * math.log(2)) + math.log2(_LEVELS_PER_UNIT)


def chains(model: LatentEBM) -> str:
    """Describes the chains behind the short-run evidence, and whether its sums bracket log p (theory.md, section 4)."""
    kernel, schedule = model.posterior_sampler, model.evidence_schedule
    name = type(kernel).__name__
    kind = "short uncorrected chains, so the sums need not enclose log p" if name == "ULA" else "short chains"
    return (
        f"{len(schedule.temperatures())} temperatures (power {schedule.power:g}), {kernel.num_steps} {name} steps of "
        f"{kernel.step_size:g}: {kind}"
    )


def reconstructions(model: LatentEBM, data: ImageDataModule, settings: Settings) -> Tensor:
    """A picture (3, H', W') of up to 40 held-out images, and below each row of them its reconstructions."""
    x = data.held_out_images[:40].to(model.device).float() / _LEVELS_PER_UNIT - 1
    return reconstruction_grid(x, model.reconstruct(x, settings.stream("reconstruction grid")), columns=10)
