"""What a study lacks, or has damaged, is told on its page in its place."""

import json
import shutil

import pytest

from tests.study.folder import grid, make, section
from tests.study.page.html_tree import by_id, text, tree
from thermoebm.study.page import document as page
from thermoebm.study.page import run as page_runs
from thermoebm.study.page import tables as page_tables
from thermoebm.study.page.run import Run


@pytest.fixture
def study(tmp_path):
    make(tmp_path / "study", seeds=1)
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("removed", "where", "sentence"),
    [
        ("claims.csv", "claims", "No claims have been checked: run the study's claims."),
        ("figures", "figures", "No figures have been drawn: run the study's figures."),
        ("final.csv", "runs", "No table of runs yet: run the study's collect."),
        ("study.yaml", "summary", "The study file is not in this folder."),
        ("runs", "samples", "No run has drawn samples yet."),
        ("runs", "configs", "No run has started yet."),
    ],
)
def test_a_missing_part_is_a_sentence(study, removed, where, sentence):
    assert sentence not in section(study, where)
    target = study / removed
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert sentence in section(study, where)


def test_a_study_that_has_not_begun(tmp_path):
    """An empty folder makes a page under the folder's name; no folder is an error."""
    (tmp_path / "new").mkdir()
    root = tree(page.write(tmp_path / "new").read_text())
    assert text(by_id(root, "title")) == "new"
    assert "No run has started yet." in text(by_id(root, "summary"))
    with pytest.raises(FileNotFoundError, match=r"There is no study folder .*nowhere: run the study first\."):
        page.write(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "claim,verdict\n", '"', "\x00\n", "a,b\n1,2,3,4\n"])
def test_damaged_tables_are_no_tables(study, content):
    """Empty, without rows, cut in a quoted field, of more fields than it has columns."""
    for name in ("claims.csv", "final.csv", "results.csv"):
        (study / name).write_text(content)
    root = tree(page.write(study).read_text())
    assert "run the study's claims" in text(by_id(root, "claims"))
    assert "run the study's collect" in text(by_id(root, "runs"))
    assert not any("distance" in text(caption) for caption in by_id(root, "samples").iter("figcaption"))


def test_damaged_runs_are_named(study):
    """The others are shown all the same."""
    damaged, bare, unfailed = (study / "runs" / name for name in ("00e4567", "01e4567", "07e4567"))
    (damaged / "run.json").write_text('{"cell": ')
    (bare / "DONE").write_text("[]")
    (unfailed / "FAILED").write_text("")
    said = section(study, "summary")
    assert "run.json of run 00e4567 is missing or damaged: its config and environment are unknown." in said
    assert f"{bare / 'DONE'} is damaged; move {bare} away and run the study again." in said
    assert f"{unfailed / 'FAILED'} is damaged; move {unfailed} away and run the study again." in said
    assert "6 h 0 min" in said.split("Time, all runs added")[1]  # of eight runs, those that are not known to be done
    assert "unknown cell" in section(study, "configs")


def test_damaged_pictures_are_named(study):
    (study / "figures" / "15-flops.png").write_bytes(b"no picture")
    said = section(study, "figures")
    assert "15-flops.png is not a readable picture; draw the figures again." in said
    assert "Gradient variance against batch size" in said
    samples = study / "runs" / "00e4567" / "0" / "samples"
    whole = (samples / "epoch-0020.png").read_bytes()
    (samples / "epoch-0020.png").write_bytes(whole[: len(whole) // 2])
    data = json.loads(by_id(tree(page.write(study).read_text()), "sample-data").text)
    assert [epoch for epoch, _, _ in data[0]["pictures"]] == [10, 30]
    assert "with 23 of the 24 grids" in section(study, "samples")


def test_cells_without_samples_are_named(study):
    shutil.rmtree(study / "runs" / "04e4567" / "0" / "samples")
    assert "No samples yet: p 1." in section(study, "samples")


def test_train_folder_is_the_highest_numbered_with_a_checkpoint(tmp_path):
    """As numbers, not as text; without a checkpoint the last one with metrics, or the last one; without any, none."""
    run = Run(tmp_path)
    assert run.trained is None
    (tmp_path / "test").mkdir()
    for name in ("0", "2", "10", "11"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    assert run.trained == tmp_path / "11"
    (tmp_path / "2" / "metrics.csv").touch()
    assert run.trained == tmp_path / "2"
    for name in ("2", "10"):
        (tmp_path / name / "checkpoints" / "last.ckpt").touch()
    assert run.trained == tmp_path / "10"


def test_an_unfinished_run_has_its_samples(study):
    """Without DONE it is unfinished, and shown as far as it came."""
    (study / "runs" / "00e4567" / "DONE").unlink()
    grid(study / "runs" / "00e4567" / "0" / "samples" / "epoch-0007.png", "7")
    (study / "final.csv").unlink()
    assert "6 of 8 done" in section(study, "summary")
    data = json.loads(by_id(tree(page.write(study).read_text()), "sample-data").text)
    shown = {run["name"]: [epoch for epoch, _, _ in run["pictures"]] for run in data}
    assert shown["batch 25, seed 0"] == [7, 10, 20, 30]


def test_a_page_is_replaced_as_a_whole(study, monkeypatch):
    """If writing fails, the old page is still there; if it does not, nothing else is left."""
    old = page.write(study).read_text()
    assert {path.name for path in study.iterdir() if "index" in path.name} == {"index.html"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        page.write(study)
    assert (study / "index.html").read_text() == old
    assert {path.name for path in study.iterdir() if "index" in path.name} == {"index.html"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("570.0", "570"),
        ("0.0123456", "0.01235"),
        ("1.5e12", "1.5e+12"),
        ("nan", ""),
        ("", ""),
        ("inf", "inf"),
        ("x", "x"),
    ],
)
def test_numbers(value, shown):
    assert page_tables.number(value) == shown


def test_moments():
    assert page_runs.moment("2026-11-21T10:00:30+02:00") == "2026-11-21 08:00 UTC"
    assert page_runs.moment("2026-11-21T10:00:30") == "2026-11-21 10:00"
    assert page_runs.moment("<yesterday>") == "<yesterday>"
