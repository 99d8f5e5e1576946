"""The tables of a study, rebuilt from its run directories."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import yaml

from tests import ROOT
from tests.cli.test_train import SHORT, cli
from tests.study.runs import CONFIG, NETWORK, contents, evaluated, make, metrics
from thermoebm.cli.study import main
from thermoebm.data import named
from thermoebm.runs.settings import settings
from thermoebm.study.analysis import collect as module
from thermoebm.study.analysis.collect import at_equal, collect, read_tables
from thermoebm.study.analysis.published import published
from thermoebm.study.planning.columns import IDENTITY


def test_a_row_for_each_epoch_and_one_for_the_run(tmp_path, capsys):
    row = {"KD[classifier:digits]_inf": 0.5, "short_run_evidence": None, "evidence_images": 297}
    evaluated(make(tmp_path, "aa"), **row)
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
    assert "test/short_run_evidence" not in final or math.isnan(run["test/short_run_evidence"])
    for table, again in zip((results, final), read_tables(tmp_path), strict=True):
        pd.testing.assert_frame_equal(table, again)


def test_the_last_value_of_a_metric_is_of_the_epoch_that_last_had_it(tmp_path):
    table = metrics()
    table.loc[table["epoch"] > 1, NETWORK] = math.nan
    make(tmp_path, "aa", table)
    _, final = collect(tmp_path)
    assert final[NETWORK].tolist() == [2.0]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_metric_that_ends_without_a_finite_value_has_no_earlier_one(tmp_path, capsys, value):
    """An empty cell was not measured, and leaves the last value; nan was, and the run has diverged."""
    table = metrics().astype(object)
    at = table.index[(table["epoch"] == 2) & table[NETWORK].notna()]
    table.loc[at, NETWORK] = value
    make(tmp_path, "aa", table)
    results, final = collect(tmp_path)
    assert NETWORK not in final
    assert results[NETWORK].tolist()[:2] == [1, 2]
    assert not math.isfinite(results[NETWORK].iloc[2])
    told = capsys.readouterr().out
    assert f"the last value of {NETWORK} is not finite" in told
    assert "damaged" not in told


def test_the_mean_of_an_epoch_with_a_nan_is_nan(tmp_path):
    table = metrics().astype(object)
    steps = table.index[(table["epoch"] == 1) & table["train/loss"].notna()]
    table.loc[steps[0], "train/loss"] = "nan"
    make(tmp_path, "aa", table)
    results, final = collect(tmp_path)
    assert np.isnan(results["train/loss"]).tolist() == [False, True, False]
    assert final["train/loss"].tolist() == [5.5]


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


def test_the_vanilla_model_has_no_power_and_own_images_have_their_folder_s():
    mle = json.loads(json.dumps(CONFIG))
    mle["model"]["init_args"]["objective"] = {"class_path": "thermoebm.objectives.MaximumLikelihood", "init_args": {}}
    mle["data"] |= {"class_path": "thermoebm.data.ImageFolder"}
    mle["data"]["init_args"] |= {"root": "pictures/faces.zip"}
    found = settings(mle)
    assert (found["dataset"], found["objective"], found["batch_size"]) == ("faces", "mle", 75)
    assert [found[name] for name in ("estimator", "power", "num_temperatures", "eta")] == [None] * 4
    assert list(found) == list(IDENTITY[IDENTITY.index("dataset") :])
    assert set(settings({}).values()) == {None}


def test_own_images_are_named_as_in_their_distances():
    """Two classes, neither of which says which images they are."""
    for kind, root in (("ImageFolder", "pictures/My Faces"), ("thermoebm.data.Arrays", "/somewhere/my-faces.npz")):
        data = {"class_path": kind, "init_args": {"root": root}}
        assert settings({"name": "third", "data": data})["dataset"] == "my-faces"
        assert named(kind.rpartition(".")[2].lower(), root=root).title == "my-faces"


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
    study = ROOT / "tests" / "kept" / "study.yaml"
    assert main(["claims", str(study), "--output", str(tmp_path)]) == 0
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert {"batch-variance", "quadratic"} <= set(claims["claim"])
    assert set(claims["verdict"]) == {"undecided"}  # there is one cell
    assert "undecided" in capsys.readouterr().out
    assert (tmp_path / "final.csv").is_file()
    with pytest.raises(SystemExit):
        main(["claims", str(study), "--output", str(tmp_path / "nothing")])
    assert "There are no runs in" in capsys.readouterr().err
