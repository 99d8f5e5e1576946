"""The thermodynamic integrand of a trained model, with the trapezoidal bins of each schedule (report, figure 2).

A last panel has the same points against their rung, since a large power puts most of them at t ≈ 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermoebm import evidence
from thermoebm.data.batches import Images
from thermoebm.modules import LatentEBM
from thermoebm.runs import checkpoints
from thermoebm.runtime.cost import suitable_threads
from thermoebm.runtime.files import replacing
from thermoebm.schedules import PowerLaw, power_law
from thermoebm.study.figures import schedules, style
from thermoebm.study.figures.tables import Study, Undrawable

#: Schedule of the ladder that stands for the continuous integrand: temperatures are dense where it is steep.
FINE = PowerLaw(48, 3.0)
IMAGES = 75
PANELS = 8


def integrand(study: Study) -> Figure:
    """E_t[log p_β(x|z)] of one trained model, with the bins of each power, and at the rungs of all powers."""
    found = [entry for entry in schedules.powers(study.final) if np.isfinite(entry[0])][:PANELS]
    table, run = measured(study)
    t, expected = (table[name].to_numpy(copy=True) for name in ("temperature", "log_likelihood"))
    columns = min(4, len(found) + 1)
    rows = -(-(len(found) + 1) // columns)
    figure = style.new(rows, width=max(style.COLUMN, 1.9 * columns), height=1.9)
    floor = float(expected.min() - 0.05 * np.ptp(expected))
    shared: Axes | None = None
    ladders = []
    exact = float(evidence.trapezium(torch.from_numpy(t), torch.from_numpy(expected)))
    for k, ((power, number, _), colour) in enumerate(zip(found, schedules.colours(found), strict=True)):
        axes = figure.add_subplot(rows, columns, k + 1, sharey=shared)
        shared = shared or axes
        edges = power_law(number, power)
        at = torch.from_numpy(np.interp(edges.numpy(), t, expected))
        _bins(axes, edges.numpy(), at.numpy(), floor, colour)
        ladders.append((f"{power:g}", at.numpy(), colour))
        axes.plot(t, expected, color="black", linewidth=0.9)
        axes.set_title(f"p = {power:g}\ntrapezium {float(evidence.trapezium(edges, at)):.1f} nats")
        axes.set_xlabel("temperature t")
        if k % columns == 0:
            axes.set_ylabel("E$_t$[log p(x|z)]\n(nats per image)")
        else:
            axes.tick_params(labelleft=False)
    _rungs(figure.add_subplot(rows, columns, len(found) + 1, sharey=shared), ladders)
    style.footnote(
        figure,
        f"{study.dataset}: the model of {run}, {IMAGES} held-out images, {len(t)} temperatures (black; trapezium "
        f"{exact:.1f} nats). Short chains. Only the temperatures differ.",
    )
    return figure


def measured(study: Study) -> tuple[pd.DataFrame, str]:
    """The integrand of the run with p nearest 6, and that run's name. It is measured once and kept beside the figures.

    Raises:
        Undrawable: If no run with a schedule has a checkpoint and data that can be read.
    """
    if study.folder is None:
        raise Undrawable("published results have no checkpoints")
    final = study.final
    candidates = final[(final["objective"] == "ti") & final["power"].notna()]
    candidates = candidates.loc[(candidates["power"] - 6).abs().sort_values(kind="stable").index]
    why = "no run with a temperature schedule has a checkpoint"
    for _, row in candidates.iterrows():
        if not isinstance(row.get("folder"), str):
            continue
        checkpoint = study.folder / row["folder"] / "checkpoints" / "last.ckpt"
        if not checkpoint.is_file():
            continue
        kept = study.folder / "figures" / f"02-integrand-{row['run']}-{checkpoint.stat().st_mtime_ns}.csv"
        try:
            table = pd.read_csv(kept) if kept.is_file() else _measure(checkpoint, kept)
        except (ValueError, OSError) as error:
            why = str(error).rstrip(".")
            continue
        return table, f"{row['cell']}, seed {row['seed']:g}"
    raise Undrawable(why)


def _measure(checkpoint: Path, kept: Path) -> pd.DataFrame:
    """Runs the fine ladder on held-out images on the CPU; returns the integrand and writes it to a file."""
    model = checkpoints.load_model(checkpoint)
    if not isinstance(model, LatentEBM):
        raise ValueError(f"{checkpoint} is a {type(model).__name__}, which has no ladder")
    data = checkpoints.load_data(checkpoint, download=False)
    data.prepare_data()
    data.setup()
    held_out = data.held_out_images[:IMAGES]
    images = Images(held_out).__getitems__(list(range(len(held_out))))
    with suitable_threads(len(images) * model.image_flops(), model.device):
        _, ell = model.ladder(images, FINE, model.stream("integrand"))
    table = pd.DataFrame({"temperature": FINE.temperatures().numpy(), "log_likelihood": ell.double().mean(-1).numpy()})
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as temporary:
        table.to_csv(temporary, index=False)
    return table


def _bins(axes: Axes, edges: np.ndarray, at: np.ndarray, floor: float, colour: str) -> None:
    """Draws the trapezia of the integral, with edges (T,) and heights (T,)."""
    for i in range(len(edges) - 1):
        ends = slice(i, i + 2)
        alpha = 0.25 if i % 2 else 0.5
        axes.fill_between(edges[ends], at[ends], floor, color=colour, alpha=alpha, linewidth=0)
    axes.plot(edges, at, "o", color=colour, markersize=2.5)
    axes.set(xlim=(-0.02, 1.02), ylim=(floor, None))


def _rungs(axes: Axes, ladders: list[tuple[str, np.ndarray, str]]) -> None:
    """Draws the heights of each power, whose name and colour are given, against the rungs of its ladder."""
    for power, heights, colour in ladders:
        axes.plot(heights, "o-", color=colour, markersize=2.5, linewidth=0.9, label=power)
    axes.set(xlabel="rung i of the ladder")
    axes.set_title("the same points, rung by rung")
    axes.tick_params(labelleft=False)
    axes.legend(title="p", loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.2)
