"""What evaluate.py prints: a line for each checkpoint, and how to read the columns."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from thermoebm.applications.evidence import paired
from thermoebm.metrics.summary import plus_minus

# The gradient variances that the table shows.
_GRADIENT = "gradient_variance/per_parameter/{}/{}"
_PARTS = ("total", "data", "sampler")


def table(results: list[dict[str, Any]]) -> str:
    """One line per checkpoint, and notes on the columns."""
    distances = list(dict.fromkeys(name for row in results for name in row["extrapolations"]))
    columns: dict[str, list[str]] = {"checkpoint": [row["label"] for row in results]}
    for name in distances:
        columns[f"{name} N=∞, all images"] = [
            f"{plus_minus(row[f'{name}_inf'], row[f'{name}_inf_se'])}, {row[name]:.4g}" if f"{name}_inf" in row else ""
            for row in results
        ]
    columns["reconstruction"] = [f"{row['reconstruction_error']:.4f}" for row in results]
    if annealed := any("evidence" in row for row in results):
        columns["evidence"] = [_if("evidence", "{evidence:.2f} ± {evidence_se:.2f}", row) for row in results]
        columns["MC error"] = [_if("evidence", "{evidence_mc_se:.2f}", row) for row in results]
        columns["bits/dim"] = [_if("evidence", "{bits_per_dimension:.3f}", row) for row in results]
    if short := [row for row in results if "short_run_evidence" in row]:
        form = "{short_run_evidence:.2f} ± {short_run_evidence_se:.2f}"
        columns["short-run evidence"] = [_if("short_run_evidence", form, row) for row in results]
        columns["left, right sum"] = [_if("left_sum", "{left_sum:.2f}, {right_sum:.2f}", row) for row in results]
        if not annealed:
            form = "{short_run_bits_per_dimension:.3f}"
            columns["short-run bits/dim"] = [_if("short_run_evidence", form, row) for row in results]
    if bounds := [row for row in results if "importance_bound" in row]:
        form = "{importance_bound:.2f} ± {importance_bound_se:.2f}"
        columns["importance bound"] = [_if("importance_bound", form, row) for row in results]
    gradients = _networks(results)
    for network in gradients:
        form = ", ".join(f"{{{_GRADIENT.format(part, network)}:.3g}}" for part in _PARTS)
        columns[f"gradient of {network}"] = [_if(_GRADIENT.format("total", network), form, row) for row in results]
    widths = [max(map(len, [head, *cells])) for head, cells in columns.items()]
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    text = ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    notes = list(
        dict.fromkeys(
            f"Evidence: log p(x) in nats per held-out image, by {row['evidence_method']} an image; MC error: its Monte "
            "Carlo standard error."
            for row in results
            if "evidence" in row
        )
    )
    notes += dict.fromkeys(f"Short-run evidence in nats per held-out image: {row['chains']}." for row in short)
    notes += dict.fromkeys(
        f"Importance bound: a lower bound of log p(x), by {row['importance_draws']} draws of the encoder."
        for row in bounds
    )
    notes += _comparisons(results)
    notes.append("± is one standard error over images.")
    notes += _noise(results, distances)
    measured = "Reconstruction and evidence" if short or bounds else "Reconstruction"
    notes += dict.fromkeys(
        f"{measured}: {row['evidence_images']} of {row['held_out_images']} held-out images, dequantised for the "
        "evidence, noise of --seed; train.py validate and test: all, not dequantised, other noise."
        for row in results
    )
    if gradients:
        notes.append("Gradient variance per parameter, on held-out images: total, data noise, sampler noise.")
    return "\n".join(["", *text, "", *notes])


def _networks(results: list[dict[str, Any]]) -> list[str]:
    """The networks whose gradient was measured, without their single tensors and all of them together."""
    total = _GRADIENT.format("total", "")
    named = (name.removeprefix(total) for row in results for name in row if name.startswith(total))
    return [name for name in dict.fromkeys(named) if "." not in name and name != "both"]


def _if(name: str, form: str, row: dict[str, Any]) -> str:
    return form.format(**row) if name in row else ""


def _comparisons(results: list[dict[str, Any]]) -> Iterator[str]:
    """Differences of evidence to the first checkpoint, on the same images: far more certain than either mean."""
    known = [row for row in results if "evidence_of_each" in row]
    for row in known[1:]:
        if row["evidence_of"] == known[0]["evidence_of"]:
            values = (torch.tensor(r["evidence_of_each"], dtype=torch.float64) for r in (row, known[0]))
            mean, error = paired(*values)
            yield (
                f"Evidence of {row['label']} less that of {known[0]['label']}, on the same images: {mean:+.2f} ± "
                f"{error:.2f}."
            )


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
