"""How the gradient variance of an epoch is reported: names of scalars, a table, a chart."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from thermoebm.gradients.moments import Gradient
from thermoebm.gradients.statistics import Estimate, across_parameters, networks

Report = dict[str, dict[str, Estimate]]


class AcrossParameters:
    """:func:`across_parameters` of each network and of both, averaged over gradients; ``names`` are the tensors'."""

    def __init__(self, names: Sequence[str]) -> None:
        self.members = networks(names)
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def update(self, gradient: Gradient) -> None:
        """Adds a gradient; sums stay on its device, without synchronisation."""
        for name, members in self.members.items():
            moments = torch.stack(across_parameters([gradient[i] for i in members])).double()
            self.sums[name] = self.sums[name] + moments if name in self.sums else moments
        self.count += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint within an epoch keeps."""
        return {"sums": self.sums, "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`state` gave."""
        self.sums, self.count = dict(state["sums"]), state["count"]

    def scalars(self) -> dict[str, float]:
        """Variance and mean under the names that are logged."""
        scalars: dict[str, float] = {}
        for name, sums in self.sums.items():
            variance, mean = (sums / self.count).tolist()
            scalars[f"gradient_variance/across_parameters/{name}"] = variance
            scalars[f"gradient_mean/across_parameters/{name}"] = mean
        return scalars


def report_scalars(report: Report, tensors: tuple[str, ...]) -> dict[str, float]:
    """The logged names and values of a report; for single tensors only the variances, as there are many of them."""
    scalars = {}
    for part, estimates in report.items():
        for quantity, estimate in estimates.items():
            if part not in tensors:
                scalars[f"gradient_variance/per_parameter/{quantity}/{part}"] = estimate.value
                scalars[f"gradient_variance/per_parameter/{quantity}_se/{part}"] = estimate.standard_error
            elif quantity in ("total", "data", "sampler"):
                scalars[f"gradient_variance/per_parameter/{quantity}/{part}"] = estimate.value
    return scalars


def write_table(report: Report, path: Path) -> None:
    """One row for each network and tensor, each quantity followed by its standard error."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["part", *(f"{q}{end}" for q in report["both"] for end in ("", "_se"))])
        rows.writerows(
            [part, *(number for e in estimates.values() for number in (e.value, e.standard_error))]
            for part, estimates in report.items()
        )


def bar_chart(report: Report, tensors: tuple[str, ...], epoch: int) -> Figure:
    """Data and sampler noise of each tensor side by side on a logarithmic scale, with 95 % intervals.

    An unbiased estimate may be negative; its bar is then missing.
    """
    figure = Figure(figsize=(7.2, 1.6 + 0.42 * len(tensors)), layout="constrained")
    axes = figure.add_subplot()
    positive = False
    for row, (part, label, color) in enumerate((("data", "data noise", "C0"), ("sampler", "sampler noise", "C1"))):
        bars = [report[tensor][part] for tensor in tensors]
        axes.barh(
            [i + 0.4 * row - 0.2 for i in range(len(tensors))],
            [bar.value for bar in bars],
            xerr=[bar.half_width for bar in bars],
            height=0.4,
            color=color,
            label=label,
            error_kw={"linewidth": 0.8},
        )
        positive |= any(bar.value > 0 for bar in bars)
    if positive:
        axes.set_xscale("log")
    axes.set_yticks(range(len(tensors)), tensors)
    axes.invert_yaxis()
    axes.set_xlabel("variance of the gradient at frozen parameters, mean over the tensor")
    total = report["both"]["total"]
    axes.set_title(
        f"Epoch {epoch}: total {total.value:.3g} ± {total.half_width:.1g} over both networks (95 %)", fontsize=10
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
