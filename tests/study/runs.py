"""Run directories as a study leaves them, made without training."""

import json
from pathlib import Path

import pandas as pd

CONFIG = {
    "name": "digits",
    "seed_everything": 3,
    "trainer": {"max_epochs": 3},
    "model": {
        "class_path": "thermoebm.modules.LatentEBM",
        "init_args": {
            "generator": {"class_path": "thermoebm.networks.ConvGenerator", "init_args": {"features": 8}},
            "objective": {
                "class_path": "thermoebm.objectives.ThermodynamicIntegration",
                "init_args": {
                    "estimator": "pathwise",
                    "eta": 2,
                    "schedule": {"num_temperatures": 10, "power": 3, "reading": "intervals"},
                },
            },
            "posterior_sampler": {"class_path": "thermoebm.samplers.ULA", "init_args": {"num_steps": 20}},
            "prior_sampler": {"class_path": "thermoebm.samplers.ULA", "init_args": {"num_steps": 60}},
        },
    },
    "data": {"class_path": "thermoebm.data.Digits", "init_args": {"batch_size": 75}},
}
NETWORK, TENSOR = (
    "gradient_variance/per_parameter/total/both",
    "gradient_variance/per_parameter/total/energy.layers.0.bias",
)


def metrics(epochs: int = 3, steps: int = 2, cost: float = 100.0) -> pd.DataFrame:
    """As train.py writes it: a row for each step, one for validation and one for the end of each epoch."""
    rows = []
    for epoch in range(epochs):
        last = (epoch + 1) * steps - 1
        for step in range(last - steps + 1, last + 1):
            rows.append({"step": step, "epoch": epoch, "train/loss": 10.0 - step})
        rows.append({"step": last, "epoch": epoch, "val/loss": 5.0 - epoch})
        rows.append({"step": last, "epoch": epoch, "cost/flops": cost * (epoch + 1), "cost/seconds": 0.5, TENSOR: 9.0})
        rows[-1] |= {NETWORK: 2.0**epoch, "cost/peak_memory": 1e6 + epoch, TENSOR.replace("para", "test/para", 1): 9.0}
    return pd.DataFrame(rows)


def make(study: Path, name: str, table: pd.DataFrame | None = None, done: bool = True, **plan: object) -> Path:
    """A run's directory, finished unless told."""
    folder = study / "runs" / name
    (folder / "0" / "checkpoints").mkdir(parents=True)
    (folder / "0" / "checkpoints" / "last.ckpt").write_bytes(b"")
    whole = {
        "study": "s",
        "run": name,
        "cell": "p 3",
        "group": "power",
        "seed": 1,
        "config": CONFIG,
        "commit": "c0ffee",
    }
    whole |= {"device": "cpu", "versions": {"python": "3.10", "torch": "2", "lightning": "2.5", "thermoebm": "0.1"}}
    (folder / "run.json").write_text(json.dumps(whole | plan))
    (metrics() if table is None else table).to_csv(folder / "0" / "metrics.csv", index=False)
    if done:
        (folder / "DONE").write_text(json.dumps({"finished": "2030-01-01T00:00:00", "seconds": 9, "attempts": 2}))
    return folder


def evaluated(folder: Path, **row: object) -> None:
    (folder / "test").mkdir()
    whole = {"settings": {}, "results": [{"checkpoint": "x", "label": "y", "extrapolations": {}, "remarks": []} | row]}
    (folder / "test" / "metrics.json").write_text(json.dumps(whole))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}
