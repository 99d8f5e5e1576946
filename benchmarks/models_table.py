"""A table of the models of a finished study of digits: mean ± standard deviation over seeds.

    python -m thermoebm.study run configs/study/models.yaml
    python -m benchmarks.models_table studies/models

Of each run's last checkpoint: MMD² and least share of a digit (benchmarks/digits_quality.py), which are computed here;
the extrapolated kernel distance to held-out digits, the reconstruction error and annealed log p(x) of all held-out
digits, which the study has measured; operations of training. The difference of log p(x) to the first cell
is paired by seed, ± its standard error.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from benchmarks.digits_quality import quality
from benchmarks.stability import differences, mean
from thermoebm.data import Digits
from thermoebm.runs import checkpoints
from thermoebm.study.analysis.collect import gather

#: Of the study: heading, column, factor.
MEASURED = {
    "KD[classifier:digits] N=∞, held out": ("test/KD[classifier:digits]_inf", 1.0),
    "reconstruction": ("test/reconstruction_error", 1.0),
    "log p(x), nats": ("test/evidence", 1.0),
    "TFLOP of training": ("flops", 1e-12),
}


def row(cell: str, runs: pd.DataFrame, first: dict[int, float], study: Path) -> str:
    """One line of the table."""
    models = [checkpoints.load_model(study / folder) for folder in runs["folder"]]
    found = [quality(model, Digits()) for model in models]
    columns = [mean([q.mmd2 for q in found]), mean([100 * min(q.shares) for q in found]) + " %"]
    columns += [mean([factor * value for value in runs[name]]) for name, factor in MEASURED.values()]
    evidence = dict(zip(runs["seed"], runs["test/evidence"], strict=True))
    return " | ".join([f"| {cell}", *columns, differences(evidence, first) if evidence != first else ""]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    study = parser.parse_args().study
    _, final, _ = gather(study)
    done = final[final["status"] == "done"].sort_values("seed")
    planned = dict.fromkeys(run["cell"] for run in json.loads((study / "plan.json").read_text())["runs"])
    cells = {cell: runs for cell in planned if len(runs := done[done["cell"] == cell])}
    first = next(iter(cells.values()))
    reference = dict(zip(first["seed"], first["test/evidence"], strict=True))
    print(" | ".join(["| model | MMD² | least share", *MEASURED, "log p(x) less the first's |"]))
    for cell, runs in cells.items():
        print(row(cell, runs, reference, study), flush=True)


if __name__ == "__main__":
    main()
