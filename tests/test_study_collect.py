"""The tables of a study: rebuilt from run directories in any state, and what is said of each."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.test_cli import SHORT, cli
from thermoebm.study import collect as module
from thermoebm.study.__main__ import main
from thermoebm.study.collect import at_equal, collect, gather, read_tables
from thermoebm.study.columns import IDENTITY
from thermoebm.study.published import published
from thermoebm.study.settings import settings

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


def test_a_row_for_each_epoch_and_one_for_the_run(tmp_path, capsys):
    evaluated(make(tmp_path, "aa"), **{"KD[classifier:digits]_inf": 0.5, "evidence": None, "evidence_images": 297})
    results, final = collect(tmp_path)
    assert capsys.readouterr().out == ""
    assert list(results.columns[: len(IDENTITY) + 4]) == [*IDENTITY, "epoch", "updates", "seconds", "flops"]
    assert results["epoch"].tolist() == [1, 2, 3]
    assert results["updates"].tolist() == [2, 4, 6]
    assert results["seconds"].tolist() == [0.5, 1.0, 1.5]
    assert results["flops"].tolist() == [100, 200, 300]
    assert results["train/loss"].tolist() == [9.5, 7.5, 5.5]  # the means of 10, 9; 8, 7; 6, 5
    assert results["val/loss"].tolist() == [5, 4, 3]
    assert results[NETWORK].tolist() == [1, 2, 4]
    assert not [name for name in (*results, *final) if "layers" in name]
    (run,) = final.to_dict("records")
    expected = {"study": "s", "run": "aa", "cell": "p 3", "group": "power", "seed": 1, "dataset": "Digits"}
    expected |= {"objective": "ti", "estimator": "pathwise", "power": 3, "batch_size": 75, "num_temperatures": 10}
    expected |= {"posterior_steps": 20, "prior_steps": 60, "eta": 2, "features": 8, "status": "done", "epochs": 3}
    expected |= {"updates": 6, "seconds": 1.5, "flops": 300, "peak_memory": 1e6 + 2, "device": "cpu"}
    expected |= {"commit": "c0ffee", "python": "3.10", "thermoebm": "0.1", "attempts": 2, "folder": "runs/aa/0"}
    expected |= {"train/loss": 5.5, NETWORK: 4, "test/KD[classifier:digits]_inf": 0.5, "test/evidence_images": 297}
    assert {name: value for name, value in run.items() if name in expected} == expected
    assert "test/evidence" not in final or math.isnan(run["test/evidence"])
    for table, again in zip((results, final), read_tables(tmp_path), strict=True):
        pd.testing.assert_frame_equal(table, again)


def test_the_last_value_of_a_metric_is_of_the_epoch_that_last_had_it(tmp_path):
    table = metrics()
    table.loc[table["epoch"] > 1, NETWORK] = math.nan
    make(tmp_path, "aa", table)
    _, final = collect(tmp_path)
    assert final[NETWORK].tolist() == [2.0]


def test_a_run_of_train_py_is_collected(tmp_path):
    """Two epochs of digits by the command line: means of what is logged at steps, and the identity of its config."""
    cli("fit", *SHORT, "--trainer.max_epochs", 2, "--trainer.limit_train_batches", 3, "--runs", tmp_path / "made")
    folder = make(tmp_path, "real")
    (folder / "0" / "metrics.csv").unlink()
    config = yaml.safe_load((tmp_path / "made" / "digits" / "0" / "config.yaml").read_text())
    (tmp_path / "made" / "digits" / "0" / "metrics.csv").rename(folder / "0" / "metrics.csv")
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"config": config}))
    results, final = collect(tmp_path)
    raw = pd.read_csv(folder / "0" / "metrics.csv")
    losses = raw["train/loss"].dropna().to_numpy()
    assert len(losses) == 6
    np.testing.assert_allclose(results["train/loss"], losses.reshape(2, 3).mean(1), rtol=1e-12)
    assert results["updates"].tolist() == [3, 6]
    np.testing.assert_allclose(results["flops"], raw["cost/flops"].dropna(), rtol=0)
    np.testing.assert_allclose(results["seconds"], raw["cost/seconds"].dropna().cumsum(), rtol=1e-12)
    assert final[["dataset", "objective", "estimator", "power", "batch_size", "num_temperatures"]].iloc[0].tolist() == (
        ["Digits", "ti", "endpoints", 6.0, 75, 10]
    )
    assert final[["posterior_steps", "prior_steps", "eta", "features"]].iloc[0].tolist() == [3, 5, 0.0, 8]


def test_the_vanilla_model_has_no_power_and_own_images_have_the_runs_name():
    mle = json.loads(json.dumps(CONFIG))
    mle["model"]["init_args"]["objective"] = {"class_path": "thermoebm.objectives.MaximumLikelihood", "init_args": {}}
    mle["data"]["class_path"] = "thermoebm.data.ImageFolder"
    mle["name"] = "faces"
    found = settings(mle)
    assert (found["dataset"], found["objective"], found["batch_size"]) == ("faces", "mle", 75)
    assert [found[name] for name in ("estimator", "power", "num_temperatures", "eta")] == [None] * 4
    assert list(found) == list(IDENTITY[IDENTITY.index("dataset") :])
    assert set(settings({}).values()) == {None}


def test_every_state_is_collected_and_told_in_a_sentence_and_nothing_is_touched(tmp_path, capsys):
    make(tmp_path, "good")
    make(tmp_path, "going", metrics(2), done=False)
    failed = make(tmp_path, "lost", metrics(1), done=False)
    (failed / "FAILED").write_text(json.dumps({"attempts": 3, "reason": "The energy ran away."}))
    planned = make(tmp_path, "planned", done=False)
    for path in (planned / "0" / "metrics.csv", planned / "0" / "checkpoints" / "last.ckpt"):
        path.unlink()
    (planned / "0" / "checkpoints").rmdir()
    (planned / "0").rmdir()
    before = contents(tmp_path)
    results, final = collect(tmp_path)
    assert contents(tmp_path) == before
    assert final.set_index("run")["status"].to_dict() == {
        **{"good": "done", "going": "running"},
        **{"lost": "failed", "planned": "missing"},
    }
    assert final.set_index("run")["epochs"].to_dict() == {"good": 3, "going": 2, "lost": 1, "planned": 0}
    assert final.set_index("run")["attempts"].to_dict()["lost"] == 3
    assert results.groupby("run").size().to_dict() == {"good": 3, "going": 2, "lost": 1}
    assert capsys.readouterr().out.splitlines() == [
        "Run going (p 3, seed 1) is not finished: 2 of 3 epochs.",
        "Run lost (p 3, seed 1) has failed after 1 epochs: The energy ran away.",
        "Run planned (p 3, seed 1) has not begun.",
    ]


def test_an_epoch_that_is_not_over_is_not_a_row(tmp_path):
    """A run that goes on: steps of its third epoch are there, its cost is not."""
    table = metrics(3)
    make(tmp_path, "aa", table[table["cost/flops"].isna() | (table["epoch"] < 2)], done=False)
    results, _, told = gather(tmp_path)
    assert results["epoch"].tolist() == [1, 2]
    assert told == ["Run aa (p 3, seed 1) is not finished: 2 of 3 epochs."]


@pytest.mark.parametrize(
    ("lost", "named", "kept"),
    [
        (lambda t: t[t["epoch"] != 1], "epoch(s) 2 of 6 are missing", [1, 3, 4, 5, 6]),
        (lambda t: t[~t["epoch"].isin([1, 2, 4])], "epoch(s) 2 to 3, 5 of 6 are missing", [1, 4, 6]),
        (lambda t: t[t["epoch"] < 4], "epoch(s) 5 to 6 of 6 are missing", [1, 2, 3, 4]),
        (lambda t: t.iloc[:0], "epoch(s) 1 to 6 of 6 are missing", []),
    ],
)
def test_missing_epochs_are_named_and_the_others_collected(tmp_path, lost, named, kept):
    config = CONFIG | {"trainer": {"max_epochs": 6}}
    make(tmp_path, "aa", lost(metrics(6)), config=config)
    results, final, (sentence,) = gather(tmp_path)
    assert named in sentence
    assert str(tmp_path / "runs" / "aa" / "0" / "metrics.csv") in sentence
    assert results["epoch"].tolist() == kept
    assert final["status"].tolist() == ["done"]


def damage_metrics(folder):
    (folder / "0" / "metrics.csv").write_bytes(b"")


def damage_a_cell(folder):
    path = folder / "0" / "metrics.csv"
    path.write_text(path.read_text().replace("4.0", "4.x", 1))


def damage_columns(folder):
    (folder / "0" / "metrics.csv").write_text("a,b\n1,2\n")


def damage_run(folder):
    (folder / "run.json").write_text('{"study": "s", ')


def damage_run_kind(folder):
    (folder / "run.json").write_text("[1]")


def lose_run(folder):
    (folder / "run.json").unlink()


def damage_test(folder):
    evaluated(folder)
    (folder / "test" / "metrics.json").write_text("{")


def empty_test(folder):
    (folder / "test").mkdir()
    (folder / "test" / "metrics.json").write_text('{"results": []}')


def damage_done(folder):
    (folder / "DONE").write_text("")


@pytest.mark.parametrize(
    ("damage", "said", "rows"),
    [
        (damage_metrics, "metrics.csv cannot be read (No columns to parse from file)", None),
        (damage_a_cell, "metrics.csv is damaged (val/loss): what is no number there is left empty", 3),
        (damage_columns, "metrics.csv cannot be read", None),
        (damage_run, "run.json cannot be read", 0),
        (damage_run_kind, "run.json holds no JSON object", 0),
        (lose_run, "has no run.json: it is no run, and left out", 0),
        (damage_test, "metrics.json cannot be read", 3),
        (empty_test, "has not one row of results: the run has no test metrics; evaluate it again", 3),
        (damage_done, "DONE cannot be read", 3),
    ],
)
def test_damage_is_told_in_a_sentence_and_the_others_are_collected(tmp_path, damage, said, rows):
    make(tmp_path, "good")
    damage(folder := make(tmp_path, "hurt"))
    before = contents(tmp_path)
    results, final, told = gather(tmp_path)
    assert contents(tmp_path) == before
    assert len(results[results["run"] == "good"]) == 3
    assert sum(said in sentence and str(folder) in sentence for sentence in told) == 1
    assert all("\n" not in sentence for sentence in told)
    assert len(results[results["run"] == "hurt"]) == (rows or 0)
    assert len(final) == (1 if rows == 0 else 2)


def test_the_folder_of_a_run_is_the_last_that_has_a_checkpoint(tmp_path):
    folder = make(tmp_path, "aa")
    for name in ("2", "10", "11", "old"):
        (folder / name / "checkpoints").mkdir(parents=True)
        metrics(3, cost=float(len(name)) * 1000).to_csv(folder / name / "metrics.csv", index=False)
    for name in ("2", "10", "old"):
        (folder / name / "checkpoints" / "last.ckpt").write_bytes(b"")
    _, final = collect(tmp_path)
    assert final[["folder", "flops"]].iloc[0].tolist() == ["runs/aa/10", 6000]


def test_tables_are_replaced_in_one_piece_or_not_at_all(tmp_path, monkeypatch):
    """A disk that is full while the second table is written: the old one stays, and a sentence says what to do."""
    make(tmp_path, "aa")
    collect(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("results.csv", "final.csv")}
    make(tmp_path, "bb")
    real = pd.DataFrame.to_csv

    def full(table, path, **fields):
        if "final" in str(path):
            Path(path).write_text("half")
            raise OSError(28, "No space left on device")
        return real(table, path, **fields)

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(
        ValueError, match=r"final.csv cannot be written \(No space left on device\); the runs are unharmed"
    ):
        collect(tmp_path)
    assert (tmp_path / "final.csv").read_bytes() == before["final.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["final.csv", "results.csv", "runs"]
    monkeypatch.undo()
    collect(tmp_path)
    assert len(read_tables(tmp_path)[1]) == 2


def test_a_folder_without_runs_or_tables_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"There are no runs in .*; start them with: python -m thermoebm.study run"):
        collect(tmp_path)
    with pytest.raises(ValueError, match=r"There is no .*results.csv; make it with: python -m thermoebm.study collect"):
        read_tables(tmp_path)
    (tmp_path / "results.csv").write_text("")
    with pytest.raises(ValueError, match=r"results.csv cannot be read .*; collect again"):
        read_tables(tmp_path)


def test_only_planned_runs_make_tables_without_epochs(tmp_path):
    folder = make(tmp_path, "aa", done=False)
    (folder / "0").rename(tmp_path / "elsewhere")
    results, final = collect(tmp_path)
    assert (len(results), final["status"].tolist()) == (0, ["missing"])
    assert set(IDENTITY) < set(results.columns)


# Comparisons at equal budgets


def test_runs_are_compared_at_the_largest_common_budget(tmp_path):
    """3 epochs of 2 steps at 50 operations, and 3 of 4 at 10: the first has 6 updates and the second 120 operations.

    A metric that is a straight line in the budget is interpolated exactly.
    """
    make(tmp_path, "aa", metrics(3, 2, cost=100))
    make(tmp_path, "bb", metrics(3, 4, cost=40))
    results, _ = collect(tmp_path)
    updates = at_equal(results, "updates").set_index("run")
    assert updates["updates"].tolist() == [6, 6]
    assert updates["val/loss"].to_dict() == {"aa": 3.0, "bb": 4.5}  # bb: half-way from epoch 1, of 4 updates, to 2
    assert updates.loc["bb", "epoch"] == 1.5
    assert updates.loc["bb", "flops"] == 60
    flops = at_equal(results, "flops").set_index("run")
    assert flops["flops"].tolist() == [120, 120]
    assert flops["val/loss"].to_dict() == {"aa": pytest.approx(4.8), "bb": 3.0}
    assert flops.loc["aa", NETWORK] == pytest.approx(1.2)
    assert list(updates.reset_index()["cell"]) == ["p 3", "p 3"]


def test_a_metric_is_not_extrapolated_to_a_budget(tmp_path):
    late = metrics(3, 4)
    late.loc[late["epoch"] < 2, "val/loss"] = math.nan  # measured after 12 updates only
    early = metrics(3, 4)
    early.loc[early["epoch"] > 0, "val/loss"] = math.nan
    other = json.loads(json.dumps(CONFIG))
    other["data"]["class_path"] = "thermoebm.data.MNIST"
    for name, table in (("a", metrics(3, 2)), ("b", late), ("c", early)):
        make(tmp_path, name, table)
    make(tmp_path, "d", metrics(3, 100), config=other)
    found = at_equal(collect(tmp_path)[0], "updates").set_index("run")
    assert found["val/loss"].isna().to_dict() == {"a": False, "b": True, "c": True, "d": False}
    assert found["updates"].to_dict() == {"a": 6, "b": 6, "c": 6, "d": 300}  # another data set has a budget of its own


def test_the_published_results_have_the_columns_of_a_study():
    table = published()
    assert len(table) == 168
    assert list(table.columns[: len(IDENTITY)]) == list(IDENTITY)
    assert table.groupby("dataset").size().to_dict() == {"CIFAR10": 50, "CelebA": 83, "SVHN": 35}
    assert module.IDENTITY is IDENTITY


def test_only_the_runs_that_the_study_now_wants_are_collected(tmp_path, capsys):
    for name in ("aa", "bb"):
        make(tmp_path, name)
    (tmp_path / "plan.json").write_text(json.dumps({"study": "s", "runs": [{"run": "bb"}]}))
    before = contents(tmp_path)
    _, final = collect(tmp_path)
    assert final["run"].tolist() == ["bb"]
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'runs' / 'aa'} is of no run of the study (any more)")
    assert contents(tmp_path) == before


def test_the_command_checks_the_claims_on_what_it_collects(tmp_path, capsys):
    for name, seed in (("aa", 1), ("bb", 2)):
        make(tmp_path, name, seed=seed)
    study = Path(__file__).parents[1] / "configs" / "study" / "mnist.yaml"
    assert main(["claims", str(study), "--output", str(tmp_path)]) == 0
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert {"batch-variance", "quadratic"} <= set(claims["claim"])
    assert set(claims["verdict"]) == {"undecided"}  # there is one cell
    assert "undecided" in capsys.readouterr().out
    assert (tmp_path / "final.csv").is_file()
    with pytest.raises(SystemExit):
        main(["claims", str(study), "--output", str(tmp_path / "nothing")])
    assert "There are no runs in" in capsys.readouterr().err
