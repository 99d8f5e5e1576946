"""Which trainings run away, what announces it, and which remedies help: a figure and a table from a finished study.

    python -m thermoebm.study run configs/study/stability.yaml
    python -m benchmarks.stability studies/stability --figure stability.png --evidence_images 100

The figure has the runs of the first cell, the tables those of all cells that are done: mean ± standard deviation over
seeds. A run has run away at the first epoch, counted from 1, that :class:`thermoebm.callbacks.EnergyAlarm` would not
have let pass; a measure has announced it at the first epoch from which on it stays beyond its limit, given below. The
alarm's warning comes at the first epoch with an acceptance below .6; in runs that do not run away it is a false one.
Log p(x) at the end is the study's own, of all held-out images, and after 100 epochs that of the first images, if asked.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from thermoebm.applications import evaluation
from thermoebm.applications.evidence import Annealing, annealed_evidence, dequantised
from thermoebm.applications.settings import Settings
from thermoebm.callbacks import EnergyAlarm
from thermoebm.callbacks.energy_alarm import Vitals
from thermoebm.study.analysis.collect import gather

Member = tuple[Any, pd.DataFrame]  #: a row of final.csv, and the run's rows of results.csv
#: Of the alarm, and of the panel of the figure.
LEAST_ACCEPTANCE = EnergyAlarm().least_acceptance
DISTANCE = "fidelity/train/KD[classifier:digits]_inf"
#: Panels of the figure: column, label, and the limit by which it announces a runaway, with the side that is healthy.
PANELS: dict[str, tuple[str, float | None, str]] = {
    "prior/energy_tilt": ("tilt, nats", None, "below"),
    "prior/corrected_acceptance": ("acceptance of a corrected step", LEAST_ACCEPTANCE, "above"),
    "prior/step_times_curvature_max": ("s λ, largest of 256 chains", 2.0, "below"),
    "prior/step_times_curvature": ("s λ, mean", 1.0, "below"),
    "prior/longer_chain_gap": ("E[f] after 10 K steps less after K, nats", None, "below"),
    "prior/longer_chain_distance": ("energy distance, K and 10 K steps", None, "below"),
    "val/short_run_nll": ("short-run nll of held-out digits", None, "below"),
    DISTANCE: ("KD[classifier:digits] to training digits", None, "below"),
}


def ran_away(run: pd.DataFrame) -> int | None:
    """The first epoch, counted from 1, at which a run was out of the alarm's limits; None: none."""
    alarm = EnergyAlarm(on_runaway="warn")
    measured = run[["epoch", "prior/energy_tilt", "prior/mean_square"]].dropna()
    faults = (int(e) for e, tilt, square in measured.itertuples(index=False) if alarm.fault(Vitals(tilt, 0, square, 0)))
    return next(faults, None)


def announced(run: pd.DataFrame, column: str, before: int | None) -> int | None:
    """The first epoch from which on a measure stays beyond its limit, until the runaway."""
    _, limit, side = PANELS[column]
    measured = run[["epoch", column]].dropna()
    if before is not None:
        measured = measured[measured["epoch"] < before]
    beyond = measured[column] > limit if side == "below" else measured[column] < limit
    if not len(measured) or not beyond.iloc[-1]:
        return None
    healthy = measured.loc[~beyond, "epoch"]
    later = measured.loc[measured["epoch"] > (healthy.iloc[-1] if len(healthy) else -1), "epoch"]
    return int(later.iloc[0])


def figure(runs: list[pd.DataFrame], path: Path) -> None:
    drawn, axes = plt.subplots(2, 4, figsize=(13, 5.6), layout="constrained", sharex=True)
    for (column, (label, limit, _)), ax in zip(PANELS.items(), axes.flat, strict=True):
        for run, colour in zip(runs, ("#0072B2", "#D55E00", "#009E73"), strict=False):
            shown = run[["epoch", column]].dropna()
            ax.plot(shown["epoch"], shown[column], color=colour, lw=1.2)
            if end := ran_away(run):
                ax.axvline(end, color=colour, ls=":", lw=1)
        if limit is not None:
            ax.axhline(limit, color="#666666", lw=0.8)
        ax.set_title(label, fontsize=9)
        values = np.concatenate([run.loc[run["epoch"] < (ran_away(run) or 10**9), column].dropna() for run in runs])
        if len(values):  # what comes after the runaway would hide all else
            low, high = values.min(), values.max()
            ax.set_ylim(low - 0.1 * (high - low) - 1e-6, high + 0.3 * (high - low) + 1e-6)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    drawn.savefig(path, dpi=110)


def evidence(checkpoint: Path, images: int) -> float:
    """Annealed log p(x) of the first held-out images, in nats."""
    settings = Settings(evidence_images=images)
    model, data = evaluation.load(checkpoint, settings)
    levels = data.held_out_images[:images]
    x = next(iter(dequantised(levels, model.device, settings.stream)))
    found = annealed_evidence(model, x, Annealing(steps=500, max_steps=500), settings.stream)
    return found.images.value.mean().item()


def at(run: pd.DataFrame, column: str, epoch: int) -> float:
    """The last value of a column up to an epoch."""
    known = run.loc[run["epoch"] <= epoch, column].dropna() if column in run else []
    return float(known.iloc[-1]) if len(known) else float("nan")


def mean(values: list[float]) -> str:
    array = np.array(values)
    return f"{array.mean():.3g} ± {array.std(ddof=1):.1g}" if len(array) > 1 else f"{array.mean():.3g}"


def differences(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """The mean difference of values by seed, paired, ± its standard error."""
    array = np.array([value - theirs[seed] for seed, value in ours.items() if seed in theirs])
    return f"{array.mean():+.2g} ± {array.std(ddof=1) / len(array) ** 0.5:.1g}" if len(array) > 1 else ""


def warned(members: list[Member]) -> str:
    """In how many of the epochs the alarm would have warned, in runs of uncorrected chains that did not run away."""
    runs = [run["prior/corrected_acceptance"].dropna() for _, run in members if ran_away(run) is None]
    low = [run < LEAST_ACCEPTANCE for run in runs if (run < 1).any()]
    return f"{sum(map(sum, low))} of {sum(map(len, low))}" if low else ""


def precursors(members: list[Member]) -> None:
    limited = [column for column, (_, limit, _) in PANELS.items() if limit is not None and column in members[0][1]]
    print(
        " | ".join(["| seed | runs away at epoch | first warning", *(PANELS[column][0] for column in limited)]) + " |"
    )
    for row, run in members:
        end, low = ran_away(run), run.loc[run["prior/corrected_acceptance"] < LEAST_ACCEPTANCE, "epoch"]
        told = [str(announced(run, column, end)) for column in limited]
        print(" | ".join([f"| {row['seed']} | {end} | {int(low.iloc[0]) if len(low) else None}", *told]) + " |")


def remedies(cells: dict[str, list[Member]], study: Path, images: int) -> None:
    print("| cell | runs away | false warnings, epochs | tilt at the end | KD at 100 | KD at the end ", end="")
    print("| less the first cell's | log p(x) at 100 | log p(x) at the end | less the first cell's |")
    first: dict[str, dict[int, float]] = {}
    for cell, members in cells.items():
        measured: dict[str, dict[int, float]] = {
            "KD": {row["seed"]: at(run, DISTANCE, 10**9) for row, run in members},
            "evidence": {row["seed"]: row["test/evidence"] for row, _ in members},
        }
        first = first or measured
        paired = {name: differences(values, first[name]) for name, values in measured.items()}
        early = [at(run, DISTANCE, 100) for _, run in members]
        found = [next((study / row["folder"]).rglob("*epoch=99*.ckpt"), None) for row, _ in members if images]
        estimates = [evidence(path, images) for path in found if path is not None]
        columns = [
            f"{sum(ran_away(run) is not None for _, run in members)} of {len(members)}",
            warned(members),
            mean([at(run, "prior/energy_tilt", 10**9) for _, run in members]),
            *(mean(early), mean([*measured["KD"].values()]), paired["KD"]),
            mean(estimates) if estimates else "",
            *(mean([*measured["evidence"].values()]), paired["evidence"]),
        ]
        print(" | ".join([f"| {cell}", *columns]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--evidence_images", type=int, default=0, help="of checkpoints after 100 epochs; 0: none")
    parser.add_argument("--figure", type=Path, help="where to draw it; left out: it is not drawn")
    options = parser.parse_args()
    results, final, _ = gather(options.study)
    planned = [run["cell"] for run in json.loads((options.study / "plan.json").read_text())["runs"]]
    cells: dict[str, list[Member]] = {cell: [] for cell in planned}
    for _, row in final[final["status"] == "done"].sort_values("seed").iterrows():
        cells[row["cell"]].append((row, results[results["run"] == row["run"]]))
    cells = {cell: members for cell, members in cells.items() if members}
    first = next(iter(cells.values()))
    if options.figure is not None:
        figure([run for _, run in first], options.figure)
    precursors(first)
    remedies(cells, options.study, options.evidence_images)


if __name__ == "__main__":
    main()
