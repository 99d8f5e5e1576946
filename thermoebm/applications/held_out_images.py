"""Measures of held-out images: how well they are reconstructed, and their evidence."""

import math
import zlib
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from thermoebm.applications.evidence import Evidence, annealed_evidence, remarks, short_run, summary
from thermoebm.applications.settings import Settings
from thermoebm.data import ImageDataModule
from thermoebm.modules import VAE, ImageModel, LatentEBM
from thermoebm.modules.annealed import BATCH, LEVELS_PER_UNIT, dequantised
from thermoebm.modules.importance import importance_bound
from thermoebm.runtime.progress import bar

#: Draws of the encoder in the importance-weighted bound.
DRAWS = 500


class HeldOut(NamedTuple):
    """Measures of held-out images: scalars by name, the annealed evidence of each image, and remarks in sentences."""

    scalars: dict[str, Any]
    annealed: Evidence | None
    remarks: list[str]


def held_out(model: ImageModel, data: ImageDataModule, settings: Settings) -> HeldOut:
    """Reconstruction error of held-out images, and log-evidence of the same images, uniformly dequantised.

    ``evidence`` is annealed, with its errors (see :mod:`thermoebm.applications.evidence`). Of a latent EBM,
    ``short_run_evidence`` (trapezium), ``left_sum`` and ``right_sum`` are from the short chains of training: no bound,
    and no bracket. Of a model with an encoder, ``importance_bound`` is a lower bound in expectation.
    """
    levels = data.held_out_images[: settings.evidence_images]
    scalars: dict[str, Any] = {
        "reconstruction_error": _reconstruction_error(model, levels, settings),
        "evidence_images": len(levels),
        "held_out_images": len(data.held_out_images),
    }
    if settings.evidence == "none":
        return HeldOut(scalars, None, [])
    if not (isinstance(model, VAE) or hasattr(model, "ladder")):
        return HeldOut(scalars, None, [f"The evidence of a {type(model).__name__} is not measured: it has no latents."])
    batches = list(dequantised(levels, model.device, settings.stream))
    if isinstance(model, VAE):
        scalars |= _importance(model, batches, settings)
    else:
        scalars |= _short_run(cast(LatentEBM, model), batches, settings)
    if settings.evidence == "short":
        return HeldOut(scalars, None, [])
    annealed = annealed_evidence(model, torch.cat(batches), settings.annealing, settings.stream)
    scalars |= summary(annealed)
    scalars["bits_per_dimension"] = short_run.bits_per_dimension(scalars["evidence"], levels[0].numel())
    scalars["evidence_of"] = f"{zlib.crc32(levels.numpy().tobytes()):08x}"  # comparisons need the same images
    scalars["evidence_of_each"] = annealed.images.value.tolist()
    return HeldOut(scalars, annealed, remarks(annealed))


def _short_run(model: LatentEBM, batches: list[Tensor], settings: Settings) -> dict[str, Any]:
    """Of the short chains of training, on dequantised images."""
    count, dimensions = sum(map(len, batches)), batches[0][0].numel()
    logs = []
    with bar(count, "short-run evidence", "image") as progress:
        for i, x in enumerate(batches):
            logs.append(short_run.sums(model, x, settings.stream("evidence", i)))
            progress.update(len(x))
    each = torch.cat(logs, 1)
    means = each.mean(1).tolist()
    return dict(zip(("short_run_evidence", "left_sum", "right_sum"), means, strict=True)) | {
        "short_run_evidence_se": (each[0].std() / math.sqrt(count)).item(),
        "short_run_bits_per_dimension": short_run.bits_per_dimension(means[0], dimensions),
        "chains": short_run.chains(model),
    }


def _importance(model: VAE, batches: list[Tensor], settings: Settings) -> dict[str, Any]:
    """The importance-weighted bound with the encoder's proposals, on dequantised images."""
    found = [importance_bound(model, x, DRAWS, settings.stream("evidence", i)) for i, x in enumerate(batches)]
    each = torch.cat([part.value for part in found])
    return {
        "importance_bound": each.mean().item(),
        "importance_bound_se": (each.std() / math.sqrt(len(each))).item(),
        "importance_effective_size": torch.cat([part.effective_size for part in found]).quantile(0.5).item(),
        "importance_draws": DRAWS,
    }


@torch.no_grad()
def _reconstruction_error(model: ImageModel, levels: Tensor, settings: Settings) -> float:
    """Mean square per pixel."""
    squared = 0.0
    for i, batch in enumerate(levels.split(BATCH)):
        x = batch.to(model.device).float() / LEVELS_PER_UNIT - 1
        difference = x - model.reconstruct(x, settings.stream("reconstructions", i))
        squared += difference.double().square().sum().item()
    return squared / levels.numel()
