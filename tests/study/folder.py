"""Makes the folder of a study, small and invented, as the study's programs leave it."""

import json
import random
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image, ImageDraw

from tests.study.page.html_tree import by_id, text, tree
from thermoebm.study import page

HOSTILE = "<script>alert(1)</script>"
ACROSS = "gradient_variance/across_parameters/both"
KERNEL = "fidelity/test/KD[classifier:digits]_inf"
FIGURES = ("01-schedules", "03-variance-batch", "15-flops", "05-kernel-variance-published")

CELLS = [
    *(("batch", f"batch {size}", {"batch_size": size}) for size in (25, 75, 150)),
    *(("power", f"p {power:g}", {"power": power}) for power in (0.1, 1, 3, 10)),
    ("eta", HOSTILE, {"power": 0.1, "eta": 2.0}),
]


#: Measured epochs of the whole study.
EPOCHS = (10, 20, 30)


def make(folder: Path, seeds: int = 2, epochs: tuple[int, ...] = EPOCHS) -> pd.DataFrame:
    """A study of which the last run failed and one more was never started; returns its final.csv as numbers."""
    generator = random.Random(0)
    rows = []
    for group, cell, settings in CELLS:
        for seed in range(seeds):
            name = f"{len(rows):02d}e4567"  # would be a number, were it read as one
            row = _row(group, cell, settings, seed, name, generator)
            if (cell, seed) == (HOSTILE, seeds - 1):
                row["status"] = "failed"
            rows.append(row)
            _run(folder, row, epochs)
    rows.append({**rows[0], "run": "99e0001", "cell": "width 16", "status": "missing", "flops": None, ACROSS: None})
    final = pd.DataFrame(rows)
    final.to_csv(folder / "final.csv", index=False)
    results(final, epochs).to_csv(folder / "results.csv", index=False)
    claims().to_csv(folder / "claims.csv", index=False)
    file = "# Maximum likelihood and\n# thermodynamic integration & more.\nname: digits\n# no part of it\n"
    (folder / "study.yaml").write_text(file)
    figures(folder / "figures")
    return final


def _row(
    group: str, cell: str, settings: dict[str, Any], seed: int, name: str, generator: random.Random
) -> dict[str, Any]:
    ti = "power" in settings
    return {
        "study": f"digits {HOSTILE}",
        "run": name,
        "cell": cell,
        "group": group,
        "seed": seed,
        "dataset": "Digits",
        "objective": "ti" if ti else "mle",
        "estimator": "detached" if ti else None,
        "power": settings.get("power"),
        "batch_size": settings.get("batch_size", 75),
        "num_temperatures": 10 if ti else None,
        "posterior_steps": 20,
        "prior_steps": 60,
        "eta": settings.get("eta", 1.0) if ti else None,
        "features": 8,
        "status": "done",
        "epochs": 30,
        "updates": 570,
        "seconds": 60 + 100 * generator.random(),
        "flops": 1.5e12,
        "peak_memory": 4e8,
        "device": "CPU <b>x</b>",
        "commit": "12e4567",
        "python": "3.10",
        "torch": "2.13.0",
        "lightning": "2.6.6",
        "thermoebm": "0.1.0",
        "attempts": 1,
        "folder": f"runs/{name}/0",
        ACROSS: 10 ** generator.uniform(-6, 3),  # as text, "1e-05" sorts after "2" and "10" before it
        "gradient_variance/per_parameter/total/both": 10 ** generator.uniform(-6, 3),
        "val/loss": -generator.random(),
        KERNEL: generator.random() / 10,
        **{f"some/metric/{index}": generator.random() for index in range(60)},
    }


def _run(folder: Path, row: dict[str, Any], epochs: tuple[int, ...]) -> None:
    run = folder / "runs" / row["run"]
    train = run / "0"
    (train / "samples").mkdir(parents=True)
    (train / "checkpoints").mkdir()
    (train / "checkpoints" / "last.ckpt").touch()
    about = {
        **{key: row[key] for key in ("study", "run", "cell", "group", "seed", "device", "commit")},
        "config": {
            **{"seed_everything": row["seed"], "name": row["run"]},
            **{"model": {"eta": row["eta"], "layers": [1, 2]}, "data": {"batch_size": 75}},
        },
        "versions": {key: row[key] for key in ("python", "torch", "lightning", "thermoebm")},
        "command": ["python", "train.py", "fit", "--name", row["cell"]],
    }
    (run / "run.json").write_text(json.dumps(about))
    if row["status"] == "failed":
        (run / "FAILED").write_text(json.dumps({"attempts": 3, "reason": f"The loss is not finite {HOSTILE}."}))
    else:
        finished = {"finished": f"2026-11-2{row['seed']}T10:00:00+00:00", "seconds": 3600.0, "attempts": 1}
        (run / "DONE").write_text(json.dumps(finished))
    for epoch in epochs:
        grid(train / "samples" / f"epoch-{epoch:04d}.png", f"{row['run'][:2]}:{epoch}")


def results(final: pd.DataFrame, epochs: tuple[int, ...]) -> pd.DataFrame:
    """Rows of final.csv at each of ``epochs``, with a kernel distance of one over the epoch."""
    started = final[final["status"] != "missing"]
    return pd.concat([started.assign(epoch=e, **{KERNEL: 1 / e}) for e in epochs]).drop(columns=["status", "epochs"])


def grid(path: Path, text: str) -> None:
    """A picture that shows what it is of."""
    image = Image.new("RGB", (132, 132), (30, 30, 30))
    ImageDraw.Draw(image).text((40, 60), text, fill=(255, 255, 255))
    image.save(path)


def figures(folder: Path) -> None:
    """A plot for each of FIGURES."""
    folder.mkdir()
    for stem in FIGURES:
        figure, axes = plt.subplots(figsize=(4, 3), dpi=80)
        axes.plot([0, 1, 2], [0, 1, 4])
        axes.set_title(stem)
        figure.savefig(folder / f"{stem}.png")
        plt.close(figure)


def claims() -> pd.DataFrame:
    """A claim of each verdict, with a hostile statement among them."""
    common = {"dataset": "Digits", "regime": "p > 1", "variance": "across parameters", "n": 16, "note": ""}
    common |= {"effect_name": "Spearman's ρ", "test": "Spearman", "repetitions_needed": 5}
    rows: list[dict[str, Any]] = [
        {"claim": "batch-variance", "statement": "A smaller batch has a larger gradient variance", "effect": -0.912345}
        | {"low": -0.98, "high": -0.7, "statistic": -0.91, "p": 1e-7, "p_holm": 1.2e-6, "verdict": "holds"},
        {"claim": "batch-fidelity", "statement": f"A smaller batch is better {HOSTILE}", "effect": 0.2}
        | {"low": 0.1, "high": 0.3, "statistic": 4.0, "p": 0.02, "p_holm": 0.2, "verdict": "does not hold"},
        {"claim": "eta", "statement": "A larger η has a smaller variance", "effect": -10.5}
        | {"low": -20.0, "high": 1.0, "statistic": -1.0, "p": 0.3, "p_holm": 0.9, "verdict": "undecided"},
    ]
    return pd.DataFrame([common | row for row in rows])


def section(folder: Path, name: str) -> str:
    """The text of a section of a newly written page."""
    return text(by_id(tree(page.write(folder).read_text()), name))
