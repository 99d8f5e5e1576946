"""docs/reference/metrics.md against runs, evaluations and studies: it has each name that they leave once, no other."""

import csv
import json
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from matplotlib.figure import Figure

from tests import ROOT
from tests.cli.test_train import SHORT, cli
from tests.cli.test_triangle import small
from tests.study import runs as studied
from thermoebm.applications import evaluation
from thermoebm.callbacks.gradient_variance import GradientVariance
from thermoebm.callbacks.phases import TRAINING
from thermoebm.cli import evaluate, monitors
from thermoebm.metrics import classifier
from thermoebm.metrics.features import Extractor, Pixels
from thermoebm.modules import annealed, starts
from thermoebm.modules.annealed import Annealing
from thermoebm.modules.diagnosis import diagnose
from thermoebm.samplers import run_pilot
from thermoebm.schedules import power_law
from thermoebm.study.analysis.collect import collect

PAGE = ROOT / "docs" / "reference" / "metrics.md"
OF_EVALUATIONS, OF_STUDIES = "Columns of `evaluate.py`", "Columns of a study"

#: What stands for what in the names; the page says it too.
PLACES = {
    "NETWORK": "(?:energy|generator|encoder|both)",
    "TENSOR": r"\w+(?:\.\w+)+",
    "SPLIT": "(?:train|test)",
    "DISTANCE": r"(?:(?:FD|KD|KD-rbf)\[[\w.:]+\]|FID|KID|KID-rbf)",
    "FEATURES": r"[\w.:]+",
    "DENSITY": "(?:prior|posterior)",
    "RUNG": r"top(?:-\d\d)?",
    "GROUP": r"pg\d",
    "KIND": "(?:samples|means of two|shuffled pixels|turned by 90 degrees|uniform noise)",
}


class Row(NamedTuple):
    """A name on the page, with places to fill, and the line above its table, which says when or where it is had."""

    name: str
    above: str

    def matches(self, name: str) -> bool:
        pattern = re.escape(self.name).replace(re.escape("..."), ".+")
        for place, names in PLACES.items():
            pattern = pattern.replace(place, names)
        return re.fullmatch(pattern, name) is not None


def tables() -> dict[str, list[Row]]:
    """The rows of the tables of names, by heading."""
    found: dict[str, list[Row]] = {}
    heading = above = ""
    prefix: str | None = None  # of all names in a table; None: outside of one
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("**"):
            above = line.strip("*")
        elif head := re.match(r"\| name(?: after `(.+)`)? \|", line):
            prefix = head[1] or ""
        elif not line.startswith("|"):
            prefix = None
        elif prefix is not None:
            names = re.findall("`([^`]+)`", line.split("|")[1])
            found.setdefault(heading, []).extend(Row(prefix + name, above) for name in names)
    return found


OF_RUNS = [row for heading, rows in tables().items() if heading not in (OF_EVALUATIONS, OF_STUDIES) for row in rows]
EVERY_2 = {"every_n_epochs": 2}
CALLBACKS: dict[str, dict[str, Any]] = {
    "LearningRateMonitor": {},
    "thermoebm.callbacks.PriorStability": {**EVERY_2, "count": 8, "products": 1},
    "thermoebm.callbacks.ChainDiagnostics": {**EVERY_2, "count": 2, "chains": 2, "long_steps": 8},
    "thermoebm.callbacks.AnnealedEvidence": {**EVERY_2, "count": 4, "steps": 3},
}
KERNEL = {"class_path": "thermoebm.samplers.MALA", "init_args": {"step_size": 0.01, "num_steps": 4}}
EXCHANGE = {"class_path": "thermoebm.samplers.ReplicaExchange", "init_args": {"kernel": KERNEL}}
SAMPLERS = SHORT[: (at := SHORT.index("--model.posterior_sampler.num_steps"))] + SHORT[at + 2 :]
EPOCHS, STEPS = 3, 2


def latent_ebm() -> list[Any]:
    """Three epochs of two steps, validated after the second and measured after that and the last."""
    callbacks = [{"class_path": kind, "init_args": fields} for kind, fields in CALLBACKS.items()]
    measured = small("vae")[small("vae").index("--gradient_variance.every_n_epochs") :]
    return [
        *SAMPLERS,
        *("--trainer.max_epochs", EPOCHS, "--trainer.limit_train_batches", STEPS),
        *("--model.posterior_sampler", json.dumps(EXCHANGE), "--model.objective.evidence_every", 1),
        *("--model.generator.features", 2, "--model.energy.hidden_dim", 16),
        *("--trainer.callbacks", json.dumps(callbacks)),
        *measured,
    ]


def encoder(name: str) -> list[Any]:
    """One epoch of four steps, validated and measured, without pictures."""
    return [*small(name), "--trainer.max_epochs", 1, "--trainer.callbacks", "[]"]


@pytest.fixture(scope="module")
def quick():
    """The same names in seconds: fewer starts, shorter chains, an untrained classifier, and pictures left empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Annealing.__init__, "__defaults__", (4, 3, 6, 0.25, 5, 40))
        patch.setattr(annealed, "_PILOT", power_law(4, 5.0))
        patch.setattr(starts, "_PILOT", 4)
        patch.setattr(starts, "_APART", 3)
        for module in (annealed, starts):
            patch.setattr(module, "run_pilot", partial(run_pilot, steps=4))
        patch.setattr(evaluation, "diagnose", partial(diagnose, long_steps=8))
        patch.setitem(classifier._RECIPE, "steps", 1)
        patch.setattr(Figure, "draw", lambda figure, renderer: None)
        yield


@pytest.fixture(scope="module")
def runs(quick, tmp_path_factory) -> dict[str, Path]:
    """The folders of a run of each kind of model."""
    folder = tmp_path_factory.mktemp("runs")
    for arguments in (latent_ebm(), encoder("vae"), encoder("divergence_triangle")):
        cli("fit", *arguments, "--runs", folder)
    return {path.parent.name: path for path in folder.glob("*/0")}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def logged(runs) -> set[str]:
    """What the three runs log."""
    names = {name for run in runs.values() for name in table(run / "metrics.csv")[0]}
    return names - {"step", "epoch"}


@pytest.fixture(scope="module")
def evaluated(runs, tmp_path_factory) -> set[str]:
    """The columns that evaluations write, of a triangle and of a latent EBM: a VAE has those of a triangle but one."""
    columns: set[str] = set()
    for name, chains in (("digits", ["--chains"]), ("digits-triangle", [])):
        output, run = tmp_path_factory.mktemp("out"), runs[name]
        measured = ["--gradient_variance", "--num_samples", "300", "--evidence_images", "8", "--split", "train"]
        evaluate.main(["--checkpoint", str(run), "--output", str(output), *measured, *chains])
        columns |= set(table(output / "metrics.csv")[0])
    return columns


def compare(rows: list[Row], names: set[str]) -> None:
    """Each name is matched by one row, and each row by a name."""
    by_name = {name: [row.name for row in rows if row.matches(name)] for name in sorted(names)}
    assert {name: found for name, found in by_name.items() if len(found) != 1} == {}
    assert [row.name for row in rows if not any(map(row.matches, names))] == []


def test_runs_log_what_the_page_has_and_nothing_else(logged):
    """Beside what an alarm logs of models of one's own, of which no run is made here."""
    compare(OF_RUNS, logged | {"training/rollbacks"})


def test_the_page_has_the_names_that_may_be_monitored_and_no_others():
    steps = {*monitors._OF_LOSS, *monitors._OF_LADDER, *monitors._OF_TRIANGLE, "chains/"}
    held_out = {*monitors._HELD_OUT, *monitors._OF_TRIANGLE}
    listed = {f"train/{name}" for name in steps} | {f"val/{name}" for name in held_out}
    listed |= {name for names in monitors._BY_CALLBACKS.values() for name in names}
    listed |= {name for _, splits in monitors._MEASURED.values() for names in splits.values() for name in names}
    names = {row.name.replace("SPLIT", split) for row in OF_RUNS for split in ("train", "test")}

    def covers(known: str, name: str) -> bool:
        return name == known or (known[-1] in "/-" and name.startswith(known))

    assert [known for known in sorted(listed) if not any(covers(known, name) for name in names)] == []
    assert [name for name in sorted(names) if not any(covers(known, name) for known in listed)] == []


def test_it_is_logged_when_the_page_says(runs):
    """By the number of values in a table of three epochs of two steps."""
    rows = table(runs["digits"] / "metrics.csv")
    values = {name: sum(bool(row[name]) for row in rows) for name in rows[0]}
    expected = {
        "Each step": EPOCHS * STEPS,
        "Each epoch": EPOCHS,
        "Once, in the first epoch": 1,
        "Each validation": 1,
        **{row.above: 2 for row in OF_RUNS if "`" in row.above},  # of the callbacks, and of their fields
    }
    assert len(expected) == 4 + len(CALLBACKS) - 1 + 3  # LearningRateMonitor's is each epoch; two fields, one twice
    found = {row: {values[name] for name in values if row.matches(name)} for row in OF_RUNS}
    assert {row.above for row, counts in found.items() if counts} == {*expected}
    assert {row: counts for row, counts in found.items() if counts and counts != {expected[row.above]}} == {}


def test_evaluations_write_what_the_page_has_and_nothing_else(evaluated):
    """Gradient variances and chains have the names that runs log, and their tables."""
    own = tables()[OF_EVALUATIONS]
    of_runs = [row for row in OF_RUNS if row.name.startswith(("gradient_", "chains/"))]
    again = {name for name in evaluated if any(row.matches(name) for row in of_runs)}
    assert {name.split("/")[0] for name in again} == {"gradient_variance", "gradient_mean", "chains"}
    compare(own, evaluated - again)


def test_studies_have_the_columns_of_the_page_before_those_of_runs_and_evaluations(tmp_path):
    studied.evaluated(studied.make(tmp_path, "aa"), reconstruction_error=0.5)
    measured = {"cost/flops", "cost/seconds", "cost/peak_memory", "train/loss", "val/loss", studied.NETWORK}
    for name, columns in zip(("results.csv", "final.csv"), map(set, collect(tmp_path)), strict=True):
        assert columns >= measured
        rows = [row for row in tables()[OF_STUDIES] if row.above in ("In both tables", f"In `{name}`")]
        compare(rows, columns - measured)


def test_the_page_says_what_stands_for_what():
    text = PAGE.read_text("utf-8")
    used = {place for rows in tables().values() for row in rows for place in re.findall("[A-Z]{4,}", row.name)} - {
        "MIFD"
    }
    assert used == set(PLACES)
    assert [place for place in PLACES if f"| `{place}` |" not in text] == []
    assert [phase for phase in TRAINING if f"`cost/seconds/{phase}`" not in text] == []
    inception = Extractor("inception", Pixels()).distance_names
    assert [name for name in inception if f"`{name}`" not in text] == []
    assert f"`{GradientVariance.name}.splits`" in text
