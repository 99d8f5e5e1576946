"""The command line of evaluate.py: checkpoints in; metrics.json, metrics.csv, pictures and a table out."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from thermoebm.applications import evaluation
from thermoebm.applications.evaluation import Settings
from thermoebm.callbacks.pictures import image_grid
from thermoebm.cli.parser import Parser, positive
from thermoebm.metrics.summary import extrapolation_figure, plus_minus
from thermoebm.runtime import class_paths
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.cost import choose_threads
from thermoebm.runtime.files import replacing, write_text
from thermoebm.runtime.terminal import fail, quieten, say
from thermoebm.runtime.threads import threads

# The gradient variances that the table shows.
_GRADIENT = "gradient_variance/per_parameter/{}/{}"
_NETWORKS = ("energy", "generator")
_PARTS = ("total", "data", "sampler")


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluates all given checkpoints; the exit code is 2 if any of them fails."""
    quieten()
    keep_freed_memory()
    class_paths.look_here()
    options = _options(arguments)
    settings = Settings(
        options.num_samples,
        options.extractor,
        options.split,
        tuple(options.sizes) if options.sizes else None,
        options.protocol,
        options.evidence_images,
        options.seed,
        ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device,
        options.gradient_variance,
        options.root,
        not options.no_download,
    )
    try:
        checkpoints = find_checkpoints(options.checkpoint)
        evaluation.check(settings)
        output = _writable(options.output)
    except (ValueError, OSError) as error:
        fail(str(error))
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
    parser.add_argument("--checkpoint", nargs="+", required=True, help="checkpoints, or folders that hold last.ckpt")
    parser.add_argument("--output", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--num_samples", type=positive, default=defaults.num_samples, help="generated images")
    parser.add_argument(
        "--extractor", default=defaults.extractor, help="classifier, pixels, inception[:PATH], class path"
    )
    parser.add_argument("--split", choices=["test", "train"], default=defaults.split, help="which real images")
    parser.add_argument("--sizes", type=positive, nargs="+", help="sample sizes of the extrapolation")
    parser.add_argument("--protocol", choices=["nested", "with_replacement"], default=defaults.protocol)
    parser.add_argument("--evidence_images", type=positive, default=defaults.evidence_images, help="at most so many")
    parser.add_argument("--gradient_variance", action="store_true", help="also of the loss on held-out images")
    parser.add_argument("--root", help="where the real images are, if not where they were in training")
    parser.add_argument("--no_download", action="store_true", help="of data sets that are absent")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser.parse_args(arguments)


def find_checkpoints(given: Sequence[str]) -> list[Path]:
    """The given files, and every last.ckpt below the given folders.

    Raises:
        ValueError: If a path is neither, or a folder holds none.
    """
    found: list[Path] = []
    for path in map(Path, given):
        inside = sorted(path.rglob("last.ckpt")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"There is no last.ckpt in the folder {path}.")
        if not inside[0].is_file():
            raise ValueError(f"There is no checkpoint {path}.")
        found += inside
    return list(dict.fromkeys(found))


def labels(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """A short label for each: digits-0 for runs/digits/0/checkpoints/last.ckpt; a number makes duplicates unique."""
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
    reference = evaluation.reference(data, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with threads(
        choose_threads(100 * model.chains.generator_flops) if settings.device == "cpu" else torch.get_num_threads()
    ):
        fake = evaluation.samples(model, settings)
        save_image(image_grid(fake[:100].cpu(), 10), folder / "samples.png")
        save_image(evaluation.reconstructions(model, data, settings), folder / "reconstructions.png")
        likelihood = evaluation.held_out(model, data, settings)
        gradients = evaluation.gradient_variance(model, data, settings) if settings.gradient_variance else {}
    row = {
        "checkpoint": str(path),
        "label": folder.name,
        "split": settings.split,
        "num_samples": settings.num_samples,
        **likelihood,
        **gradients,
        "extrapolations": {},
        "remarks": reference.remarks,
    }
    yield row
    scalars, lines, remarks = evaluation.fidelity(fake, reference, settings)
    for remark in remarks:
        say(remark)
    extrapolation_figure(lines).savefig(folder / "extrapolation.png", dpi=120)
    fitted = {name: line._asdict() | {"slope_is_noise": line.slope_is_noise} for name, line in lines.items()}
    yield row | scalars | {"extrapolations": fitted, "remarks": remarks}


def write_tables(results: list[dict[str, Any]], settings: Settings, output: Path) -> None:
    """Writes metrics.json, and metrics.csv with one row per checkpoint; each is replaced atomically."""
    whole = _finite({"settings": asdict(settings), "results": results})
    write_text(output / "metrics.json", json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    rows = [{k: v for k, v in row.items() if k not in ("extrapolations", "remarks")} for row in results]
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


def table(results: list[dict[str, Any]]) -> str:
    """One line per checkpoint, and notes on the columns."""
    distances = list(dict.fromkeys(name for row in results for name in row["extrapolations"]))
    heads = ["checkpoint", *(f"{name} N=∞, all images" for name in distances)]
    heads += ["reconstruction", "short-run evidence", "left, right sum", "short-run bits/dim"]
    gradients = any(_GRADIENT.format("total", "both") in row for row in results)
    lines = [heads + [f"gradient of {network}" for network in _NETWORKS if gradients]]
    for row in results:
        cells = [row["label"]]
        for name in distances:
            known = f"{name}_inf" in row
            cells.append(f"{plus_minus(row[f'{name}_inf'], row[f'{name}_inf_se'])}, {row[name]:.4g}" if known else "")
        cells += [f"{row['reconstruction_error']:.4f}"]
        cells += [f"{row['short_run_evidence']:.2f} ± {row['short_run_evidence_se']:.2f}"]
        cells += [f"{row['left_sum']:.2f}, {row['right_sum']:.2f}", f"{row['short_run_bits_per_dimension']:.3f}"]
        for network in _NETWORKS if gradients else ():
            cells.append(", ".join(f"{row[_GRADIENT.format(part, network)]:.3g}" for part in _PARTS))
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    notes = dict.fromkeys(f"Short-run evidence in nats per held-out image: {row['chains']}." for row in results)
    plain = ["± is one standard error over images."]
    plain += _noise(results, distances)
    plain += dict.fromkeys(
        f"Reconstruction and short-run evidence: {row['evidence_images']} of {row['held_out_images']} held-out images, "
        "dequantised for the evidence, noise of --seed; train.py validate and test: all, not dequantised, other noise."
        for row in results
    )
    if gradients:
        plain.append("Gradient variance per parameter, on held-out images: total, data noise, sampler noise.")
    return "\n".join(["", *text, "", *notes, *plain])


def _noise(results: list[dict[str, Any]], distances: Sequence[str]) -> Iterator[str]:
    """Says of which distances the slope is noise: N = ∞ may then lie beyond every measured value."""
    lines = {
        name: [row["extrapolations"][name] for row in results if name in row["extrapolations"]] for name in distances
    }
    unbiased = [name for name in distances if any(line["unbiased"] for line in lines[name])]
    if unbiased:
        yield (
            f"{', '.join(unbiased)}: unbiased at every N, so the slope is noise: N=∞ estimates what all images do, "
            "with more error."
        )
    for name in distances:
        flat = [row["label"] for row in results if (line := row["extrapolations"].get(name)) and line["slope_is_noise"]]
        if flat and name not in unbiased:
            yield (
                f"{name} of {', '.join(flat)}: the slope is within two standard errors of 0, so it is noise: N=∞ "
                "corrects for a bias that these images do not show."
            )
