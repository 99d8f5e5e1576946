"""What SECURITY.md says: checkpoints, configs and study files that try to run what they must not."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

import thermoebm
from tests import ROOT
from tests.cli.test_train import CONFIG, cli
from thermoebm.cli import evaluate
from thermoebm.cli.train import CLI
from thermoebm.modules import LatentEBM
from thermoebm.runs import checkpoints
from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.planning.file import read


class Armed:
    """Of no kind that a field takes; leaves a trace if it is made."""

    def __init__(self, path: str = "") -> None:
        Path(path).touch()


def fire(path: str = "") -> None:
    Path(path).touch()


class Payload:
    """Leaves a trace if it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self):
        return fire, (self.trace,)


@pytest.fixture
def trace(tmp_path):
    """The file that anything that was run leaves; it must not be there in the end."""
    path = tmp_path / "trace"
    yield path
    assert not path.exists()


def wrong(trace):
    """What is no class of the right kind, with the arguments that would make it leave its trace."""
    return {
        "os.system": {"command": f"touch {trace}"},
        "subprocess.Popen": {"args": ["touch", str(trace)]},
        "tests.test_security.Armed": {"path": str(trace)},
    }


_WRONG = sorted(wrong(Path()))
_PLACES = ["model", "model.energy", "model.prior_sampler", "model.objective", "model.objective.schedule", "data"]


def hostile(config, place, name, trace):
    """The config with this callable at a place; below ``init_args`` where the place is nested."""
    config = copy.deepcopy(config)
    first, *below = place.split(".")
    inner = config
    for part in (first, *below)[:-1]:
        inner = inner[part]["init_args"]
    inner[(first, *below)[-1]] = {"class_path": name, "init_args": wrong(trace)[name]}
    return config


def saved(checkpoint, path, **changes):
    torch.save(torch.load(checkpoint, weights_only=True) | changes, path)
    return path


@pytest.mark.parametrize("name", _WRONG)
def test_a_checkpoint_builds_only_classes_of_the_kind_that_a_field_takes(checkpoint, tmp_path, trace, name):
    config = torch.load(checkpoint, weights_only=True)["config"]
    for place in _PLACES:
        path = saved(checkpoint, tmp_path / "x.ckpt", config=hostile(config, place, name, trace))
        load = checkpoints.load_data if place == "data" else checkpoints.load_model
        with pytest.raises(ValueError, match=r"x\.ckpt: its (model|data) cannot be built: ") as told:
            load(path)
        assert not trace.exists(), (place, told)


@pytest.mark.parametrize("name", _WRONG)
def test_a_config_and_a_study_file_build_only_classes_of_the_kind_that_a_field_takes(tmp_path, trace, name, capsys):
    """The study is only planned: it composes every config, as training would."""
    base = yaml.safe_load((ROOT / "configs" / "digits.yaml").read_text())
    study = {"name": "x", "configs": ["x.yaml"], "seeds": [0], "cells": [{"name": "a", "group": "a", "set": {}}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(base))
    assert len(read(tmp_path / "study.yaml", CLI).runs) == 1  # nothing else is wrong with it
    for place in (*_PLACES, "trainer"):
        if place == "trainer":
            config = copy.deepcopy(base)
            config["trainer"]["callbacks"] = [{"class_path": name, "init_args": wrong(trace)[name]}]
        else:
            config = hostile(base, place, name, trace)
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(config))
        if place in ("model.energy", "trainer"):  # one parser reads both
            with pytest.raises(SystemExit, match="2"):
                cli("fit", "--config", tmp_path / "x.yaml", "--runs", tmp_path / "runs")
            assert capsys.readouterr().err.startswith("error: ")
        with pytest.raises(StudyError):
            read(tmp_path / "study.yaml", CLI)
        assert not trace.exists(), place


@pytest.mark.parametrize("where", ["state_dict", "config", "callbacks", "epoch"])
def test_a_pickle_in_a_checkpoint_is_not_run(checkpoint, tmp_path, trace, where, capsys):
    path = saved(checkpoint, tmp_path / "x.ckpt", **{where: Payload(trace)})
    for load in (thermoebm.load, checkpoints.load_data, checkpoints.load_checkpoint):
        with pytest.raises(ValueError, match=r"x\.ckpt is not a readable checkpoint"):
            load(path)
    with pytest.raises(Exception, match=r"[Ww]eights"):  # torch's own word
        LatentEBM.load_from_checkpoint(path)
    if where != "state_dict":  # one is enough for the programs, which load it so
        return
    for arguments in (["--ckpt_path", path], ["--ckpt_path", path, "--weights_only", "false"]):
        with pytest.raises(SystemExit, match="2"):
            cli("fit", *CONFIG, *arguments, "--runs", tmp_path / "runs")
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(["--checkpoint", str(path), "--output", str(tmp_path / "out")])
    assert capsys.readouterr().err.count("is not a readable checkpoint") == 3


def test_a_checkpoint_does_not_choose_the_function_that_makes_its_module(checkpoint, tmp_path, trace):
    arguments = torch.load(checkpoint, weights_only=True)["hyper_parameters"]
    for name in ("tests.test_security.fire", "subprocess.Popen", "os.system"):
        path = saved(checkpoint, tmp_path / "x.ckpt", hyper_parameters=arguments | {"_instantiator": name})
        with pytest.raises(ValueError, match="not in the allowlist"):
            LatentEBM.load_from_checkpoint(path)


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "name:os.system", "module:antigravity"]
)
def test_tags_of_python_in_yaml_are_refused(tmp_path, trace, tag, capsys):
    for text in (f"name: !!python/{tag} ['touch {trace}']\n", f"name: !!python/{tag} ''\n"):
        (tmp_path / "x.yaml").write_text(text)
        for files in ([tmp_path / "x.yaml"], [CONFIG[1], tmp_path / "x.yaml"]):
            with pytest.raises(SystemExit, match="2"):
                cli("fit", *(part for file in files for part in ("--config", file)), "--runs", tmp_path / "runs")
            assert "error: " in capsys.readouterr().err
        with pytest.raises(StudyError):
            read(tmp_path / "x.yaml", CLI)
