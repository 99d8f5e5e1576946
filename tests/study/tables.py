"""A small study folder with made-up numbers: known quadratics of fidelity in gradient variance, tiny pictures."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torchvision.utils import save_image

from thermoebm.callbacks.pictures import image_grid
from thermoebm.runs.logged import VARIANCES
from thermoebm.study.planning.columns import IDENTITY, regime

KERNEL, FRECHET = "KD[classifier:digits]", "FD[classifier:digits]"
# The kernel distance of each regime is base + bend (v - vertex)² in the variance across parameters v, plus noise.
CURVES = {"vanilla": (0.03, 8.0, 0.12), "0 < p ≤ 1": (0.08, 0.4, 0.2), "p > 1": (0.05, 6.0, 0.1)}
SEEDS = (0, 1, 2)
EPOCHS = (10, 20, 30, 40)


def cells() -> list[dict]:
    """The identity of each cell: four batch sizes, seven powers, and extensions of p = 0.1."""
    vanilla = {"group": "batch", "objective": "mle", "posterior_steps": 20, "features": 8}
    ti = {
        "group": "power", "objective": "ti", "estimator": "endpoints", "power": 0.1, "batch_size": 75,
        "num_temperatures": 10, "posterior_steps": 20, "eta": 1.0, "features": 8,
    }  # fmt: skip
    found = [vanilla | {"cell": f"batch {size}", "batch_size": size} for size in (150, 25, 75, 50)]
    found += [ti | {"cell": f"p {power:g}", "power": power} for power in (0.1, 0.3, 1.0, 2.0, 3.0, 6.0, 10.0)]
    found += [ti | {"cell": f"N_t {n}", "group": "num_temperatures", "num_temperatures": n} for n in (20, 30)]
    found.append(ti | {"cell": "K 40", "group": "posterior_steps", "posterior_steps": 40})
    found += [ti | {"cell": f"η {eta:g}", "group": "eta", "eta": eta} for eta in (2.0, 4.0)]
    found.append(vanilla | {"cell": "width 16", "group": "width", "batch_size": 75, "features": 16})
    return [{"study": "made-up", "dataset": "Digits", "prior_steps": 60} | cell for cell in found]


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(results, final): a row per run and epoch, and a row per run."""
    rng = np.random.default_rng(0)
    results = []
    for cell in cells():
        for seed in SEEDS:
            name = f"{cell['cell']}-{seed}".replace(" ", "")
            for epoch in EPOCHS:
                results.append(cell | {"run": name, "seed": seed} | _numbers(cell, epoch, rng))
    table = pd.DataFrame(results)
    table = table[[*IDENTITY, *(name for name in table if name not in IDENTITY)]]
    kinds = regime(table)
    for split in ("train", "test"):
        for k, (base, bend, vertex) in enumerate(CURVES[kind] for kind in kinds):
            v = table[VARIANCES["across parameters"]].iloc[k]
            d = base + bend * (v - vertex) ** 2 + 0.2 / table["epoch"].iloc[k] + 0.001 * rng.standard_normal()
            table.loc[table.index[k], f"fidelity/{split}/{KERNEL}_inf"] = d
            table.loc[table.index[k], f"fidelity/{split}/{FRECHET}_inf"] = 30 * d + rng.standard_normal() * 0.1
    final = table[table["epoch"] == EPOCHS[-1]].copy()
    final.insert(len(IDENTITY), "status", "done")
    final["device"] = "cpu"
    final["folder"] = [f"runs/{name}/0" for name in final["run"]]
    final = final.rename(columns={"epoch": "epochs"})
    return table.reset_index(drop=True), final.reset_index(drop=True)


#: Enough cells for every figure.
FEW = ("batch 25", "batch 75", "p 0.1", "p 6", "N_t 20")


def write(folder: Path, only: tuple[str, ...] = ()) -> None:
    """Writes results.csv, final.csv and the last samples of each run into a folder: of all cells, or of these."""
    results, final = (table[table["cell"].isin(only or table["cell"])] for table in tables())
    results.to_csv(folder / "results.csv", index=False)
    final.to_csv(folder / "final.csv", index=False)
    for k, run in enumerate(final["folder"]):
        path = folder / run / "samples" / "epoch-0040.png"
        path.parent.mkdir(parents=True)
        images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(k)) * 2 - 1
        save_image(image_grid(images, 4), path)


def _numbers(cell: dict, epoch: int, rng: np.random.Generator) -> dict[str, float]:
    """What a run has logged at an epoch; the kernel and Fréchet distances follow from the variance."""
    ti = cell["objective"] == "ti"
    power = cell.get("power", 0.0)
    level = (
        3.0 / cell["batch_size"] + 0.08
        if not ti
        else (0.12 + 0.1 / (power + 0.1) if power <= 1 else 0.06 + power / 120)
    )
    extra = {"num_temperatures": -0.03, "eta": 0.04, "posterior_steps": 0.02, "width": 0.03}.get(cell["group"], 0.0)
    v = (level + extra) * (1 + 5 / epoch) * (1 + 0.04 * rng.standard_normal())
    updates = epoch * (1500 // cell["batch_size"])
    each = (
        cell["batch_size"] * cell["features"] * (cell["posterior_steps"] * cell.get("num_temperatures", 1) + 60) * 1e4
    )
    numbers = {"epoch": epoch, "updates": updates, "seconds": updates * each / 4e10 * (1 + 0.05 * rng.random())}
    numbers |= {"flops": updates * each, "train/loss": 20 / epoch + 0.1 * rng.random() + 3 * ti}
    numbers |= {"val/short_run_nll": 30 + 100 / epoch + rng.random(), VARIANCES["across parameters"]: v}
    for split, scale in (("", 1.0), ("test/", 1.1)):
        numbers[f"gradient_variance/{split}per_parameter/total/both"] = scale * v / 50
        numbers[f"gradient_variance/{split}per_parameter/normalised/both"] = scale * v / (v + 0.1)
    return numbers
