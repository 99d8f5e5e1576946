"""The study file: what it is composed to, how a run is named, and what is refused in which words."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from thermoebm.cli.study import main
from thermoebm.cli.train import CLI
from thermoebm.study.planning.compose import compose
from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.planning.file import read
from thermoebm.study.planning.work import posterior_steps
from thermoebm.study.running import folder, prepare, worker

CONFIGS = ROOT / "configs"
POWER = "model.init_args.objective.init_args.schedule.power"
BATCH = "data.init_args.batch_size"
STUDY = {
    "name": "small",
    "configs": [str(CONFIGS / "digits.yaml")],
    "set": {"trainer.max_epochs": 3},
    "seeds": [4, 0],
    "cells": [
        {"name": "b {batch_size}", "group": "batch", "configs": [str(CONFIGS / "mle.yaml")], "grid": {BATCH: [25, 75]}},
        {"name": "p", "group": "power", "configs": [str(CONFIGS / "ti.yaml")], "set": {POWER: 0.1}},
    ],
}


def write(folder: Path, study: dict) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def changed(**entries) -> dict:
    return copy.deepcopy(STUDY) | entries


def with_cell(**entries) -> dict:
    return changed(cells=[STUDY["cells"][1] | entries])


def test_cells_and_seeds_become_runs_with_whole_configs(tmp_path):
    study = read(write(tmp_path, STUDY), CLI)
    assert [(run.cell, run.group, run.seed) for run in study.runs] == [
        (cell, group, seed) for seed in (4, 0) for cell, group in (("b 25", "batch"), ("b 75", "batch"), ("p", "power"))
    ]
    assert len({run.hash for run in study.runs}) == 6
    first, last = study.runs[0].config, study.runs[-1].config
    assert (first["seed_everything"], last["seed_everything"]) == (4, 0)
    assert first["data"]["init_args"]["batch_size"] == 25
    assert first["model"]["init_args"]["objective"]["class_path"].endswith("MaximumLikelihood")
    assert last["model"]["init_args"]["objective"]["init_args"]["schedule"]["power"] == 0.1
    assert last["model"]["init_args"]["objective"]["init_args"]["estimator"] == "contrastive"
    assert first["trainer"]["max_epochs"] == last["trainer"]["max_epochs"] == 3
    assert first["model"]["init_args"]["likelihood_sigma"] == 0.3  # a default too
    # Three epochs of 20 steps: maximum likelihood has one chain for an image, thermodynamic integration eleven.
    assert [posterior_steps(run) for run in study.runs[:3]] == [3 * 20, 3 * 20, 3 * 11 * 20]


def a_hash(**overrides) -> str:
    files = [CONFIGS / "digits.yaml", CONFIGS / "ti.yaml"]
    return compose(CLI, files, {"trainer.max_epochs": 3} | overrides, 0).seeded(0)[0]


def test_a_hash_depends_on_what_has_an_effect_and_on_nothing_else():
    base = a_hash()
    same = [
        {"model.init_args.pixel_noise": False},  # a default
        {POWER: 6},  # as ti.yaml has it, and a whole number
        {"data.init_args.root": "elsewhere"},
        {"trainer.enable_progress_bar": False},
        {"name": "x"},
        {"threads": 2},
    ]
    other = [
        {POWER: 3},
        {"trainer.max_epochs": 4},
        {"model.init_args.pixel_noise": True},
        {"fidelity.num_samples": 100},
        {BATCH: 25},
        {"model.init_args.generator.init_args.features": 4},
    ]
    assert [a_hash(**fields) for fields in same] == [base] * len(same)
    assert len({base, *(a_hash(**fields) for fields in other)}) == len(other) + 1


@pytest.mark.parametrize("name", ["2065760e61", "1234567890", "0123456789", "1e5", "1_0e7", "12345678e9", "c545c9e7b5"])
def test_a_hash_stays_a_word_in_the_runs_config(tmp_path, name):
    """Even one of digits and an e, which train.py's parser takes for a number and PyYAML does not."""
    study = read(write(tmp_path, changed(cells=STUDY["cells"][1:], seeds=[0])), CLI)
    (run,) = study.runs
    run = replace(run, hash=name, config=run.config | {"name": name})
    prepare.prepare(replace(study, runs=(run,)), tmp_path / "out")
    place = tmp_path / "out" / "runs" / name
    assert compose(CLI, [place / "config.yaml"], {}, 0).config["name"] == name
    assert folder.read(place / "run.json")["run"] == name


def test_a_study_asks_for_evidence_by_a_field_that_names_no_other_run(tmp_path):
    study, asked = (
        read(write(tmp_path, changed(cells=STUDY["cells"][1:], seeds=[0], **field)), CLI)
        for field in ({}, {"evidence": "annealed"})
    )
    assert [run.hash for run in study.runs] == [run.hash for run in asked.runs]
    given = {}
    for each in (study, asked):
        prepare.prepare(each, tmp_path / "out")
        place = tmp_path / "out" / "runs" / each.runs[0].hash
        about = folder.read(place / "run.json")
        worker._evaluate(
            given.setdefault(about["evidence"], []).extend, place, place / "c", about["config"], about["evidence"]
        )
    assert set(given) == {"short", "annealed"}
    for evidence, arguments in given.items():
        assert arguments[arguments.index("--evidence") + 1] == evidence


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (
            with_cell(set={"model.init_args.sigma": 1}),
            r"cell 'p': there is no field model.init_args.sigma; did you mean model.init_args.prior_sigma",
        ),
        (with_cell(set={BATCH: -1}), r"cell 'p': .*batch_size is -1; it must be at least 1"),
        (with_cell(set={POWER: "steep"}), r"cell 'p': .*steep"),
        (with_cell(set={"trainer.max_epochs": -1}), r"cell 'p': .*max_epochs is -1"),
        (with_cell(set={"model.init_args.seed": 3}), r"cell 'p' sets model.init_args.seed: the study's seeds say it"),
        (with_cell(set={"seed_everything": 3}), r"cell 'p' sets seed_everything: the study's seeds say it"),
        (with_cell(configs=["absent.yaml"]), r"cell 'p': there is no config .*absent.yaml; paths are relative"),
        (with_cell(name="p {eta}"), r"cell 'p \{eta\}': its name needs 'eta'"),
        (with_cell(group=None), r"cell 'p' has no group"),
        (with_cell(grids={}), r"cell 'p' has an unknown entry 'grids'; there are configs, grid,"),
        (with_cell(grid={POWER: 3}), r"cell 'p': the grid's .*power is 3; give a list"),
        (changed(cells=[STUDY["cells"][1]] * 2), "two cells are called 'p'"),
        (changed(cells=[STUDY["cells"][1], STUDY["cells"][1] | {"name": "q"}]), "'p' and 'q' are the same settings"),
        (changed(cells=[]), "there are no cells"),
        (changed(seeds=[]), r"seeds is \[\]; give a list"),
        (changed(seeds=[1, 1]), "a seed is there twice"),
        (changed(seeds=[True]), r"seeds is \[True\]; give a list"),
        (changed(retries=-1), "retries is -1"),
        (changed(evidence="long"), "evidence is 'long'; choose one of none, short, annealed"),
        (changed(name="a/b"), "name is 'a/b'"),
        (changed(sed={}), "the study has an unknown entry 'sed'"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence_with_file_and_cell(tmp_path, study, words, capsys):
    path = write(tmp_path, study)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--output", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    with pytest.raises(StudyError, match=words) as error:
        read(path, CLI)
    assert str(error.value).startswith(f"{path}: ")
    assert told == f"error: {error.value}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no such study file"), ("a: [", "not valid YAML"), ("3", "no study")]
)
def test_a_file_that_is_no_study_is_told(tmp_path, text, words):
    path = tmp_path / "s.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError, match=words):
        read(path, CLI)


#: As those of CIFAR-10 and of the digits, on other images.
ALIKE = [pytest.param(name, marks=pytest.mark.slow) for name in ("celeba", "svhn", "mnist")]


@pytest.mark.parametrize("name", ["cifar10", "digits", *ALIKE])
def test_the_reports_experiments_are_there(name):
    study = read(CONFIGS / "study" / f"{name}.yaml", CLI)
    groups = {cell.group for cell in study.cells}
    assert groups == {"batch", "power", "num_temperatures", "posterior_steps", "eta", "width"}
    batches = {c.composed.config["data"]["init_args"]["batch_size"] for c in study.cells if c.group == "batch"}
    powers = {
        c.composed.config["model"]["init_args"]["objective"]["init_args"]["schedule"]["power"]
        for c in study.cells
        if c.group == "power"
    }
    if name in ("mnist", "digits"):
        assert len(batches) >= 3
        assert len(powers) >= 5
        assert len(study.seeds) == 3
    else:
        assert (batches, powers) == ({25, 50, 75, 150}, {0.1, 0.3, 1, 2, 3, 6, 10})
        assert len(study.seeds) == 5


# A study that was changed


def test_a_changed_study_is_told_and_keeps_its_runs(tmp_path):
    output = tmp_path / "out"
    before = read(write(tmp_path, STUDY), CLI)
    assert prepare.difference(before, output) == []
    prepare.prepare(before, output)
    assert prepare.difference(before, output) == []
    newest = {output / "plan.json", output / "study.yaml"}
    kept = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path not in newest}
    first = (output / "study.yaml").read_text()
    prepare.prepare(before, output)
    assert {path.name for path in output.glob("*.yaml")} == {"study.yaml"}  # the same file is kept once
    cells = copy.deepcopy(STUDY["cells"])
    cells[0]["grid"][BATCH] = [75, 150]
    cells[1]["name"] = "renamed"
    after = read(write(tmp_path, changed(cells=cells)), CLI)
    (told,) = prepare.difference(after, output)
    assert told == (
        f"{after.path} has changed since runs were made: new are 'b 150'; no longer wanted are 'b 25', whose 2 runs "
        f"stay in {output / 'runs'}."
    )
    prepare.prepare(after, output)
    renamed = next(run for run in after.runs if run.cell == "renamed")
    assert folder.read(output / "runs" / renamed.hash / "run.json")["cell"] == "renamed"
    changed_files = {path for path, content in kept.items() if path.read_bytes() != content}
    assert changed_files == {output / "runs" / run.hash / "run.json" for run in after.runs if run.cell == "renamed"}
    assert len(prepare.strays(after, output)) == 2
    assert (output / "study.yaml").read_text() == after.path.read_text()
    assert (output / "study-1.yaml").read_text() == first
    prepare.prepare(read(write(tmp_path, STUDY), CLI), output)
    assert {path.name for path in output.glob("*.yaml")} == {"study.yaml", "study-1.yaml", "study-2.yaml"}


def test_a_default_that_has_changed_is_told(tmp_path):
    output, study = tmp_path / "out", read(write(tmp_path, STUDY), CLI)
    prepare.prepare(study, output)
    place = output / "runs" / study.runs[0].hash
    about = folder.read(place / "run.json")
    about["config"]["model"]["init_args"]["pixel_noise"] = True
    folder.write(place / "run.json", about)
    (told,) = prepare.difference(study, output)
    assert "1 runs were made when defaults were others" in told
    assert f"model.init_args.pixel_noise True, now False, of {place}; move" in told
