"""A study of version 0.1.0 with its runs and checkpoints, shrunk: whatever is renamed, it loads and goes on.

It was made by ``python -m thermoebm.study run tests/kept/study.yaml --jobs 1 --threads 1`` at commit 3bf9069; pictures,
event files and logs are left out. ``generated.npy`` has four images of each model, (4, 1, 8, 8), drawn with seed 0.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import thermoebm
from tests import ROOT
from tests.cli.test_train import cli, rows
from thermoebm.cli.train import CLI
from thermoebm.runs.checkpoints import load_data
from thermoebm.study.analysis.collect import collect, read_table
from thermoebm.study.figures import tables as drawn
from thermoebm.study.page import tables as page
from thermoebm.study.planning.file import read
from thermoebm.study.running import board

KEPT = ROOT / "tests" / "kept"
NOW = {  # what has another name since, in its metrics and tables
    **{f"{stage}/evidence": f"{stage}/short_run_evidence" for stage in ("val", "test")},
    "val/nll": "val/short_run_nll",
    "test/evidence_se": "test/short_run_evidence_se",
    "test/bits_per_dimension": "test/short_run_bits_per_dimension",
}
RUNS = sorted(path.name for path in (KEPT / "folder" / "runs").iterdir())


@pytest.fixture
def kept(tmp_path):
    """The study's folder, to be written in."""
    return shutil.copytree(KEPT / "folder", tmp_path / "kept")


@pytest.mark.parametrize("run", RUNS)
def test_its_models_make_the_same_images(run):
    """To rounding: processors differ in their last bits."""
    place = KEPT / "folder" / "runs" / run
    model = thermoebm.load(place / "0" / "checkpoints" / "last.ckpt")
    images = model.generate(4, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(images, np.load(place / "generated.npy"), rtol=0, atol=1e-5)
    assert load_data(place / "0" / "checkpoints" / "last.ckpt").image_shape == model.generator.image_shape


@pytest.mark.parametrize("run", RUNS)
def test_its_runs_go_on_in_their_own_folders(kept, run):
    """Which they do as the same model and data only, class paths included; what was logged stays to the letter.

    Metrics that have another name since are continued under it: none has two columns.
    """
    place = kept / "runs" / run
    before = [{NOW.get(name, name): value for name, value in row.items()} for row in rows(place / "0")]
    cli(
        *("fit", "--config", place / "config.yaml", "--runs", place.parent, "--threads", 1),
        *("--ckpt_path", place / "0" / "checkpoints" / "last.ckpt", "--trainer.max_epochs", 3),
        *("--gradient_variance.every_n_epochs", 0, "--fidelity.every_n_epochs", 0),
    )
    assert [path.name for path in place.glob("*/metrics.csv")] == ["metrics.csv"]
    after = rows(place / "0")
    assert [{name: row[name] for name in before[0]} for row in after[: len(before)]] == before
    assert {row["epoch"] for row in after[len(before) :]} == {"2"}
    assert any(row["val/short_run_nll"] for row in after[: len(before)])
    assert any(row["val/short_run_nll"] for row in after[len(before) :])
    assert not NOW.keys() & after[0].keys()


def test_its_file_names_the_same_runs_and_all_are_done(kept):
    study = read(KEPT / "study.yaml", CLI)
    assert sorted(run.hash for run in study.runs) == RUNS
    assert board.status(study, kept)[-1].split() == ["all", "2", "0", "0", "0"]


def test_its_tables_are_collected_to_the_letter(kept):
    """Values and cells; each column stands under its present name, in the order of names."""
    before = {name: text(kept / name) for name in ("results.csv", "final.csv")}
    for name in before:
        (kept / name).unlink()
    collect(kept)
    for name, table in before.items():
        after = text(kept / name)
        head = [column for column in table if "/" not in column]
        assert list(after) == [*head, *sorted({NOW.get(column, column) for column in table} - {*head})]
        pd.testing.assert_frame_equal(after, table.rename(columns=NOW)[list(after)])


def test_its_tables_are_read_under_the_present_names(kept):
    """As they were written then, by what draws and judges, and by the page; no value is lost, none doubled."""
    for name in ("results.csv", "final.csv"):
        table = pd.read_csv(kept / name)
        of_stages = {old: new for old, new in NOW.items() if old in table}
        assert len(of_stages) == (5 if name == "final.csv" else 2)
        for found in (read_table(kept / name), page.read(kept / name, {"run"})):
            assert list(found) == [NOW.get(column, column) for column in table]
            for old, new in of_stages.items():
                np.testing.assert_array_equal(pd.to_numeric(found[new], errors="coerce"), table[old])
    (study,) = drawn.read(kept)
    assert drawn.has(study.results, "val/short_run_nll")


@pytest.mark.parametrize("added", [{"short_run_evidence": -300.0}, {"evidence_method": "annealed"}])
def test_beside_it_a_newer_evaluation_keeps_its_evidence(kept, added):
    """One run is evaluated anew, where ``evidence`` is not the short-run one; the other one's is as it was."""
    path = kept / "runs" / RUNS[0] / "test" / "metrics.json"
    whole = json.loads(path.read_text())
    whole["results"][0] |= {"evidence": -200.0} | added
    path.write_text(json.dumps(whole))
    before = pd.read_csv(kept / "final.csv", index_col="run")
    _, final = collect(kept)
    new, old = (final.set_index("run").loc[run] for run in RUNS)
    assert new["test/evidence"] == -200
    assert np.isnan(old["test/evidence"])
    assert old["test/short_run_evidence"] == before["test/evidence"][RUNS[1]]
    assert new["val/short_run_evidence"] == before["val/evidence"][RUNS[0]]
    if "short_run_evidence" in added:
        assert new["test/short_run_evidence"] == -300


def text(path):
    """A table as it stands in its file."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)
