"""The command line of evaluate.py: checkpoints in; metrics.json, metrics.csv, pictures and a table out."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from torchvision.utils import save_image

from thermoebm.applications import evaluation
from thermoebm.applications.held_out_images import held_out as measure_held_out
from thermoebm.applications.settings import Kind, Settings
from thermoebm.callbacks.chain_figure import chain_figure
from thermoebm.callbacks.image_energies import area_under_roc, energy_figure
from thermoebm.callbacks.pictures import image_grid
from thermoebm.cli.evaluation_table import table
from thermoebm.cli.evidence import add_options, annealing_of, write_table
from thermoebm.cli.parser import Parser, add_download, positive
from thermoebm.data import ImageDataModule
from thermoebm.metrics.summary import extrapolation_figure
from thermoebm.modules import DivergenceTriangle
from thermoebm.runs.finding import Which, find_checkpoints, without_best
from thermoebm.runtime import class_paths
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.cost import suitable_threads
from thermoebm.runtime.files import replacing, write_text
from thermoebm.runtime.terminal import fail, quieten, say


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluates all given checkpoints; the exit code is 2 if any of them fails."""
    quieten()
    keep_freed_memory()
    class_paths.look_here()
    options = _options(arguments)
    try:
        settings = _settings(options)
        checkpoints = find_checkpoints(options.checkpoint, options.which)
        evaluation.check(settings)
        output = _writable(options.output)
    except (ValueError, OSError) as error:
        fail(str(error))
    for path in without_best(options.checkpoint) if options.which == "best" else []:
        say(f"There is no best.ckpt beside {path}: its run is left out.")
    results: dict[str, dict[str, Any]] = {}
    failed = False
    for label, path in labels(checkpoints).items():
        say(f"{path} -> {output / label}")
        try:
            for row in _evaluate(path, output / label, settings):
                results[label] = row
                write_tables(list(results.values()), settings, output)
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: out of memory, no convergence
            failed = True
            named = str(error) if str(path) in str(error) else f"{path}: {error or type(error).__name__}"
            print(f"error: {' '.join(named.split())}", file=sys.stderr, flush=True)
    if results:
        say(table(list(results.values())))
        say(f"Everything is in {output}: metrics.json, metrics.csv and a folder of pictures for each checkpoint.")
    if failed:
        raise SystemExit(2)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    defaults = Settings()
    parser = Parser(prog="evaluate.py", description="How good is a trained model? Needs nothing but its checkpoint.")
    parser.add_argument("--checkpoint", nargs="+", required=True, help="checkpoints, or folders of runs")
    parser.add_argument(
        "--which", choices=get_args(Which), default="last", help="of folders: last.ckpt, or best.ckpt of the best epoch"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--num_samples", type=positive, default=defaults.num_samples, help="generated images")
    parser.add_argument(
        "--extractor", default=defaults.extractor, help="classifier, pixels, inception[:PATH], class path"
    )
    parser.add_argument("--split", choices=["test", "train"], default=defaults.split, help="which real images")
    parser.add_argument("--sizes", type=positive, nargs="+", help="sample sizes of the extrapolation")
    parser.add_argument("--protocol", choices=["nested", "with_replacement"], default=defaults.protocol)
    parser.add_argument("--evidence", choices=get_args(Kind), default=defaults.evidence, help="log p(x), and how")
    add_options(parser)
    parser.add_argument("--evidence_images", type=positive, default=defaults.evidence_images, help="at most so many")
    parser.add_argument("--gradient_variance", action="store_true", help="also of the loss on held-out images")
    parser.add_argument(
        "--chains", action="store_true", help="also chains.png: short chains against long corrected ones"
    )
    parser.add_argument("--root", help="where the real images are, if not where they were in training")
    add_download(parser)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        options.num_samples,
        options.extractor,
        options.split,
        tuple(options.sizes) if options.sizes else None,
        options.protocol,
        options.evidence,
        annealing_of(options),
        options.evidence_images,
        options.seed,
        ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device,
        options.gradient_variance,
        options.chains,
        options.root,
        options.download,
    )


def labels(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """A short label for each: digits-0 for runs/digits/0/checkpoints/last.ckpt, digits-0-best for best.ckpt beside it.

    A number makes duplicates unique.
    """
    named: dict[str, Path] = {}
    for path in checkpoints:
        folder = [part for part in path.resolve().parts[1:-1] if part != "checkpoints"][-2:]
        base = label = "-".join(folder + ([] if path.stem == "last" else [path.stem])) or path.stem
        number = 2
        while label in named:
            label, number = f"{base}-{number}", number + 1
        named[label] = path
    return named


def _writable(output: Path) -> Path:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (probe := output / ".writable").write_text("")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"The output folder {output} cannot be written ({error.strerror}).") from error
    return output


def _evaluate(path: Path, folder: Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yields a checkpoint's row, first without distances and then with them; writes pictures as early as possible."""
    model, data = evaluation.load(path, settings)
    chosen = evaluation.choice(path)
    reference = evaluation.reference(data, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with suitable_threads(100 * model.image_flops(), model.device):
        fake = evaluation.samples(model, settings)
        save_image(image_grid(fake[:100].cpu(), 10), folder / "samples.png")
        save_image(evaluation.reconstructions(model, data, settings), folder / "reconstructions.png")
        held_out = measure_held_out(model, data, settings)
        if held_out.annealed is not None:
            write_table(held_out.annealed, folder / "evidence.csv")
        gradients = evaluation.gradient_variance(model, data, settings) if settings.gradient_variance else {}
        quality = evaluation.chain_quality(model, data, settings) if settings.chains else {}
        areas = _energies(model, data, settings, folder) if isinstance(model, DivergenceTriangle) else {}
    if quality:
        title = f"Short chains of {folder.name} against long corrected ones"
        chain_figure(quality, title).savefig(folder / "chains.png", dpi=120)
    row = {
        "checkpoint": str(path),
        "label": folder.name,
        "split": settings.split,
        "num_samples": settings.num_samples,
        **held_out.scalars,
        **gradients,
        **areas,
        **{f"chains/{density}/{k}": v for density, found in quality.items() for k, v in found.scalars().items()},
        "extrapolations": {},
        "remarks": chosen + reference.remarks + held_out.remarks,
    }
    yield row
    scalars, lines, remarks = evaluation.fidelity(fake, reference, settings)
    remarks = chosen + held_out.remarks + remarks
    for remark in remarks:
        say(remark)
    extrapolation_figure(lines).savefig(folder / "extrapolation.png", dpi=120)
    fitted = {name: line._asdict() | {"slope_is_noise": line.slope_is_noise} for name, line in lines.items()}
    yield row | scalars | {"extrapolations": fitted, "remarks": remarks}


def _energies(model: DivergenceTriangle, data: ImageDataModule, settings: Settings, folder: Path) -> dict[str, float]:
    """Draws the histogram of energies; returns areas under ROC curves of held-out images against the other kinds."""
    energies = evaluation.energies(model, data, settings)
    energy_figure(energies, folder.name).savefig(folder / "energies.png", dpi=120)
    real, *_ = energies.values()
    return {f"energy_auroc/{kind}": area_under_roc(real, f) for kind, f in energies.items() if f is not real}


def write_tables(results: list[dict[str, Any]], settings: Settings, output: Path) -> None:
    """Writes metrics.json, and metrics.csv with one row per checkpoint; each is replaced atomically."""
    whole = _finite({"settings": asdict(settings), "results": results})
    write_text(output / "metrics.json", json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    rows = [
        {k: v for k, v in row.items() if k not in ("extrapolations", "remarks", "evidence_of_each")} for row in results
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(output / "metrics.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _finite(value: Any) -> Any:
    """Replaces non-finite numbers by None, which JSON writes as null: it cannot represent them."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
