"""The command line of the evidence: a checkpoint in; its log-evidence with errors, and a figure, out."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch

from thermoebm.applications import evaluation
from thermoebm.applications.evidence import Annealing, Evidence, annealed_evidence, bounds, remarks, short_run, summary
from thermoebm.applications.evidence.figure import evidence_figure
from thermoebm.applications.settings import Settings
from thermoebm.cli.parser import Parser, add_download, positive
from thermoebm.evidence import Weighed
from thermoebm.modules import LatentEBM
from thermoebm.modules.annealed import BATCH, dequantised, mean_and_error
from thermoebm.runs.finding import Which, find_checkpoint
from thermoebm.runtime import class_paths
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.cost import suitable_threads
from thermoebm.runtime.files import replacing, write_text
from thermoebm.runtime.terminal import fail, quieten, say


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the evidence of one checkpoint; the exit code is 2 if it cannot."""
    quieten()
    keep_freed_memory()
    class_paths.look_here()
    options = _options(arguments)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    try:
        annealing = annealing_of(options)
        settings = Settings(
            evidence_images=options.evidence_images,
            seed=options.seed,
            device=device,
            root=options.root,
            download=options.download,
        )
        evaluation.check(settings)
        checkpoint = find_checkpoint(options.checkpoint, options.which)
        output = options.output or checkpoint.resolve().parent
        output.mkdir(parents=True, exist_ok=True)
        _measure(checkpoint, output, settings, annealing, options.simulated)
    except (ValueError, OSError, RuntimeError) as error:
        fail(f"{error or type(error).__name__}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m thermoebm.applications.evidence",
        description="log p(x) of held-out images by annealed importance sampling, and both bounds on simulated ones.",
    )
    defaults = Settings()
    parser.add_argument("checkpoint", type=Path, help="the checkpoint, or a run's folder")
    parser.add_argument("--which", choices=get_args(Which), default="last", help="of a folder: last.ckpt or best.ckpt")
    parser.add_argument("--output", type=Path, help="folder for what is written; default: the checkpoint's")
    parser.add_argument("--evidence_images", type=positive, default=defaults.evidence_images, help="at most so many")
    parser.add_argument("--simulated", type=int, default=100, help="images simulated for both bounds; 0: none")
    add_options(parser)
    parser.add_argument("--root", help="where the real images are, if not where they were in training")
    add_download(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser.parse_args(arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of annealing, for this program and evaluate.py."""
    defaults = Annealing()
    parser.add_argument("--evidence_chains", type=int, default=defaults.chains, help="for each image, at least 4")
    parser.add_argument("--evidence_steps", type=int, help=f"temperatures tried first ({defaults.steps}), doubled")
    parser.add_argument("--evidence_max_steps", type=int, default=defaults.max_steps, help="... up to this")
    parser.add_argument(
        "--evidence_tolerance", type=float, default=defaults.tolerance, help="... or until the change is below (nats)"
    )


def annealing_of(options: argparse.Namespace) -> Annealing:
    """The settings that the options say; a small limit lowers the first number of steps where none is given.

    Raises:
        ValueError: If they cannot be.
    """
    first, most = options.evidence_steps, options.evidence_max_steps
    return Annealing(
        chains=options.evidence_chains,
        steps=min(Annealing.steps, most) if first is None else first,
        max_steps=most,
        tolerance=options.evidence_tolerance,
    )


def table(evidence: Evidence) -> pd.DataFrame:
    """One row for each image, in the order of the held-out images."""
    images = evidence.images._asdict()
    return pd.DataFrame({name: values.tolist() for name, values in images.items()}).rename_axis("image")


def write_table(evidence: Evidence, path: Path) -> None:
    """Writes :func:`table` as CSV, whole or not at all."""
    with replacing(path) as temporary:
        table(evidence).to_csv(temporary)


def _of(images: Weighed) -> dict[str, float]:
    mean, error = mean_and_error(images)
    medians = {name: getattr(images, name).quantile(0.5).item() for name in ("spread", "effective_size")}
    return {"evidence": mean, "evidence_mc_se": error, **medians}


def _measure(path: Path, output: Path, settings: Settings, annealing: Annealing, simulated: int) -> None:
    model, data = evaluation.load(path, settings)
    if not isinstance(model, LatentEBM):
        raise ValueError(f"{path} is a {type(model).__name__}; its evidence is measured by evaluate.py.")
    flops = BATCH * model.image_flops()
    with suitable_threads(flops, model.device):
        levels = data.held_out_images[: settings.evidence_images]
        batches = list(dequantised(levels, model.device, settings.stream))
        x = torch.cat(batches)
        short = [short_run.sums(model, part, settings.stream("evidence", i))[0] for i, part in enumerate(batches)]
        evidence = annealed_evidence(model, x, annealing, settings.stream)
        both = bounds(model, simulated, evidence, settings.stream) if simulated > 0 else []
    scalars: dict[str, Any] = summary(evidence) | {"short_run_evidence": torch.cat(short).mean().item()}
    scalars["bits_per_dimension"] = short_run.bits_per_dimension(scalars["evidence"], x[0].numel())
    trials = [{"steps": trial.steps, "acceptance": trial.acceptance} | _of(trial.images) for trial in evidence.trials]
    gaps = [dict(zip(("steps", "gap", "gap_se"), (b.steps, *b.gap), strict=True)) for b in both]
    sizes = evidence.pilot.sizes
    whole = {
        "checkpoint": str(path),
        "settings": asdict(annealing) | {"seed": settings.seed, "images": len(x)},
        **scalars,
        "trials": trials,
        "simulated": gaps,
        "step_sizes": {"t": sizes.temperatures.tolist(), "step_size": sizes.sizes.tolist()},
    }
    write_text(output / "evidence.json", json.dumps(whole, indent=2) + "\n")
    write_table(evidence, output / "evidence.csv")
    evidence_figure(evidence, both, scalars["short_run_evidence"]).savefig(output / "evidence.png", dpi=120)
    say(
        f"log p(x) {scalars['evidence']:.2f} nats ± {scalars['evidence_mc_se']:.2f} (Monte Carlo) "
        f"± {scalars['evidence_se']:.2f} (over {len(x)} images), {scalars['bits_per_dimension']:.3f} bits/dim."
    )
    say(f"By {scalars['evidence_method']} an image.")
    if both:
        gap, error = both[-1].gap
        say(
            f"On {simulated} images simulated from the model the two bounds are {gap:.2f} ± {error:.2f} nats apart, "
            "which bounds the error of either there, up to the error of the prior's draws."
        )
    for remark in evaluation.choice(path) + remarks(evidence):
        say(remark)
    say(f"{output} has evidence.json, evidence.csv (each image) and evidence.png.")
