"""Evaluation of a trained model: distances of its samples to real images, short-run evidence, reconstructions."""

import math
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from thermoebm.applications.evidence import Annealing, Evidence, annealed_evidence, remarks, short_run, summary
from thermoebm.callbacks.gradient_report import AcrossParameters, report_scalars
from thermoebm.callbacks.grids import reconstruction_grid
from thermoebm.data import ImageDataModule, named
from thermoebm.gradients.draws import measure, trainable
from thermoebm.metrics import features
from thermoebm.metrics.extrapolation import Extrapolation, Protocol, fit_sizes
from thermoebm.metrics.features import Extractor
from thermoebm.metrics.fidelity import inception_score, mifid
from thermoebm.metrics.summary import summarise
from thermoebm.modules import ImageModel, LatentEBM, generation
from thermoebm.modules.annealed import BATCH, LEVELS_PER_UNIT, dequantised
from thermoebm.modules.diagnosis import Diagnosis, diagnose
from thermoebm.runs import checkpoints
from thermoebm.runtime import randomness
from thermoebm.runtime.progress import bar

#: The evidence that is measured.
Kind = Literal["none", "short", "annealed"]


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation.

    Args:
        num_samples: Number of generated images, and maximum number of real images they are compared with.
        extractor: Name of the features; see :mod:`thermoebm.metrics.features`.
        split: Real images that samples are compared with: the held-out (``test``) or the training images (``train``).
        sizes: Sample sizes of the extrapolation; None: the report's ten, scaled down where images are fewer.
        protocol: How subsets are drawn.
        evidence: Evidence that is measured: ``annealed``, with its error, beside that of ``short`` chains; only the
            latter; or ``none``.
        annealing: How the annealed evidence is measured.
        evidence_images: Maximum number of held-out images whose evidence and reconstructions are measured.
        seed: Seed of all noise and subsets.
        device: Device of the computation.
        gradient_variance: Measure the variance of the learning gradient on held-out images too.
        chains: Compare the short chains with long corrected ones too.
        root: Folder or file of the real images; None: the same as in training.
        download: Whether an absent data set, or absent weights of the extractor, may be downloaded; None: as the config
            of the checkpoint says.
    """

    num_samples: int = 4500
    extractor: str = "classifier"
    split: Literal["test", "train"] = "test"
    sizes: tuple[int, ...] | None = None
    protocol: Protocol = "nested"
    evidence: Kind = "annealed"
    annealing: Annealing = Annealing()  # noqa: RUF009  (frozen)
    evidence_images: int = 300
    seed: int = 0
    device: str = "cpu"
    gradient_variance: bool = False
    chains: bool = False
    root: str | None = None
    download: bool | None = None

    def stream(self, name: str, *counters: int) -> torch.Generator:
        """The random stream for one named use."""
        return randomness.stream(self.device, self.seed, f"evaluate {name}", *counters)


def gradient_variance(model: ImageModel, data: ImageDataModule, settings: Settings) -> dict[str, float]:
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
    # A classifier may need the data set, and whether weights may be downloaded its config tells.
    if settings.extractor != "inception" and not settings.extractor.startswith("classifier"):
        features.extractor(settings.extractor)


def load(path: Path, settings: Settings) -> tuple[ImageModel, ImageDataModule]:
    """The model of a checkpoint and its data set; needs only the checkpoint and the data.

    Raises:
        ValueError: If either cannot be loaded.
    """
    fields: dict[str, Any] = {"root": settings.root} if settings.root else {}
    fields |= {} if settings.download is None else {"download": settings.download}
    model, data = checkpoints.load_model(path).to(settings.device), checkpoints.load_data(path, **fields)
    data.prepare_data()
    data.setup()
    model.check_images(data.image_shape)
    return model, data


def choice(path: Path) -> list[str]:
    """A remark on a checkpoint that was chosen by held-out images, which are those of an evaluation; else none."""
    name = checkpoints.chosen_by(checkpoints.load_checkpoint(path))
    if name is None or not {"val", "test"} & {*name.split("/")}:
        return []
    return [
        f"{path.name} was chosen by {name}, a measure of the held-out images that are evaluated here: what is measured "
        "of them is optimistic."
    ]


def samples(model: ImageModel, settings: Settings) -> Tensor:
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
    extractor = features.extractor(settings.extractor, partial(named, own=data, download=data.download), data.download)
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
    scalars, lines, said = summarise(x, y, names, sizes, settings.stream("subsets"), settings.protocol)
    if settings.split == "train":  # only training images can be memorised
        scalars[names.mifid] = mifid(x, y).item()
    if extractor.head is not None:
        mean, deviation = inception_score(extractor.head(y).cpu())
        scalars |= {names.score: mean.item(), f"{names.score}_sd": deviation.item()}
    return Fidelity(scalars | {"real_images": len(real)}, lines, scaled + said)


class HeldOut(NamedTuple):
    """Measures of held-out images: scalars by name, the annealed evidence of each image, and remarks in sentences."""

    scalars: dict[str, Any]
    annealed: Evidence | None
    remarks: list[str]


def held_out(model: ImageModel, data: ImageDataModule, settings: Settings) -> HeldOut:
    """Reconstruction error of held-out images, and log-evidence of the same images, uniformly dequantised.

    ``evidence`` is annealed, with its errors (see :mod:`thermoebm.applications.evidence`). ``short_run_evidence``
    (trapezium), ``left_sum`` and ``right_sum`` are from the short chains of training: no bound, and no bracket.
    """
    levels = data.held_out_images[: settings.evidence_images]
    scalars: dict[str, Any] = {
        "reconstruction_error": _reconstruction_error(model, levels, settings),
        "evidence_images": len(levels),
        "held_out_images": len(data.held_out_images),
    }
    if settings.evidence == "none" or not isinstance(model, LatentEBM):
        return HeldOut(scalars, None, [])
    batches = list(dequantised(levels, model.device, settings.stream))
    logs = []
    with bar(len(levels), "short-run evidence", "image") as progress:
        for i, x in enumerate(batches):
            logs.append(short_run.sums(model, x, settings.stream("evidence", i)))
            progress.update(len(x))
    each = torch.cat(logs, 1)
    means, dimensions = each.mean(1).tolist(), levels[0].numel()
    scalars |= dict(zip(("short_run_evidence", "left_sum", "right_sum"), means, strict=True))
    scalars |= {
        "short_run_evidence_se": (each[0].std() / math.sqrt(len(levels))).item(),
        "short_run_bits_per_dimension": short_run.bits_per_dimension(means[0], dimensions),
        "chains": short_run.chains(model),
    }
    if settings.evidence == "short":
        return HeldOut(scalars, None, [])
    annealed = annealed_evidence(model, torch.cat(batches), settings.annealing, settings.stream)
    scalars |= summary(annealed)
    scalars["bits_per_dimension"] = short_run.bits_per_dimension(scalars["evidence"], dimensions)
    scalars["evidence_of"] = f"{zlib.crc32(levels.numpy().tobytes()):08x}"  # comparisons need the same images
    scalars["evidence_of_each"] = annealed.images.value.tolist()
    return HeldOut(scalars, annealed, remarks(annealed))


@torch.no_grad()
def _reconstruction_error(model: ImageModel, levels: Tensor, settings: Settings) -> float:
    """Mean square per pixel."""
    squared = 0.0
    for i, batch in enumerate(levels.split(BATCH)):
        x = batch.to(model.device).float() / LEVELS_PER_UNIT - 1
        difference = x - model.reconstruct(x, settings.stream("reconstructions", i))
        squared += difference.double().square().sum().item()
    return squared / levels.numel()


def chain_quality(model: ImageModel, data: ImageDataModule, settings: Settings) -> dict[str, Diagnosis]:
    """Short chains against long corrected ones, of eight held-out images, by density.

    Raises:
        ValueError: If the model has no chains.
    """
    if not isinstance(model, LatentEBM):
        raise ValueError(f"--chains compares the chains of a LatentEBM, and {type(model).__name__} has none.")
    x = data.held_out_images[:8].to(model.device).float() / LEVELS_PER_UNIT - 1
    return diagnose(model, x, lambda i: settings.stream("chain diagnostics", i), title="chain diagnostics")


def reconstructions(model: ImageModel, data: ImageDataModule, settings: Settings) -> Tensor:
    """A picture (3, H', W') of up to 40 held-out images, and below each row of them its reconstructions."""
    x = data.held_out_images[:40].to(model.device).float() / LEVELS_PER_UNIT - 1
    return reconstruction_grid(x, model.reconstruct(x, settings.stream("reconstruction grid")), columns=10)
