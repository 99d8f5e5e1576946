"""The command line: a fault in a config file is told with the file and the field's whole name."""

import json
import os

import pytest
import yaml

from tests.cli.test_train import CONFIG, assert_fault, cli
from thermoebm.cli import given, overlays

GRID = "thermoebm.callbacks.SampleGrid"
UNKNOWN = {  # the contents of an overlay, the field and the nearest one
    "top": ({"nam": "x"}, "nam", "name"),
    "above": ({"trainr": {"max_epochs": 3}}, "trainr", "trainer"),
    "outside": ({"max_epochs": 3}, "max_epochs", "trainer.max_epochs"),
    "trainer": ({"trainer": {"maxepochs": 3}}, "trainer.maxepochs", "trainer.max_epochs"),
    "data": ({"data": {"init_args": {"batchsize": 3}}}, "data.batchsize", "data.batch_size"),
    "short": ({"data": {"batchsize": 3}}, "data.batchsize", "data.batch_size"),
    "model": ({"model": {"init_args": {"energie": 3}}}, "model.energie", "model.energy"),
    "measurement": ({"fidelity": {"num_sample": 3}}, "fidelity.num_sample", "fidelity.num_samples"),
    "optimiser": (
        {"model": {"init_args": {"energy_optimizer": {"learning-rate": 3}}}},
        *("model.energy_optimizer.learning-rate", "model.energy_optimizer.learning_rate"),
    ),
    "schedule": (
        {"model": {"init_args": {"objective": {"init_args": {"schedule": {"powr": 3}}}}}},
        *("model.objective.schedule.powr", "model.objective.schedule.power"),
    ),
    "callback": (
        {
            "trainer": {
                "callbacks": [
                    {"class_path": "thermoebm.callbacks.IntegrandPlot", "init_args": {"every_n_epochs": 3}},
                    {"class_path": GRID, "init_args": {"count": 4, "every_n_epoch": 3}},
                ]
            }
        },
        *("trainer.callbacks.SampleGrid.every_n_epoch", "trainer.callbacks.SampleGrid.every_n_epochs"),
    ),
}


FAST = ("top", "trainer", "schedule", "callback")


@pytest.mark.parametrize(
    "where", [pytest.param(where, marks=() if where in FAST else pytest.mark.slow) for where in UNKNOWN]
)
def test_an_unknown_field_of_a_file_is_told_by_its_whole_name(tmp_path, capsys, where):
    contents, field, nearest = UNKNOWN[where]
    (file := tmp_path / "overlay.yaml").write_text(yaml.safe_dump(contents))
    said = f"error: there is no field {field}, which {file} sets; did you mean {nearest}?"
    assert_fault(capsys, tmp_path / "runs", said, "fit", *CONFIG, "-c", file)


@pytest.mark.parametrize("field", ["model.seed", "model.init_args.seed", "data.seed"])
def test_a_seed_that_the_runs_own_would_replace_is_told(tmp_path, capsys, field):
    said = f"error: {field} is 5, and seed_everything takes its place; give that instead."
    assert_fault(capsys, tmp_path / "runs", said, "fit", *CONFIG, f"--{field}", 5, "--trainer.max_epochs", 1)
    (file := tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"seed": 0}}}))
    said = f"error: data.seed is 0 in {file}, and seed_everything takes its place; give that instead."
    assert given.without_effect(["-c", str(file)]) == said.removeprefix("error: ")


def test_an_unknown_field_of_an_object_on_the_command_line_is_told_by_its_whole_name(tmp_path, capsys):
    objects = json.dumps([{"class_path": GRID, "init_args": {"every_n_epoch": 3}}])
    said = "error: there is no field trainer.callbacks.SampleGrid.every_n_epoch; did you mean"
    assert_fault(capsys, tmp_path / "runs", said, "fit", *CONFIG, "--trainer.callbacks", objects)


@pytest.mark.parametrize(
    ("contents", "field", "told"),
    [
        ({"model": {"init_args": {"objective": {"init_args": {"schedule": {"power": "much"}}}}}}, *(
            "model.objective.schedule.power", "Expected a float. Got value: much")),
        ({"data": {"class_path": "Nope"}}, "data", "Expected a dot import path string: Nope"),
        ({"trainer": {"max_epochs": "many"}}, "trainer.max_epochs", "Expected a int. Got value: many"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_the_file_that_has_it(tmp_path, capsys, contents, field, told):
    """The first file has the same field with another value."""
    (file := tmp_path / "overlay.yaml").write_text(yaml.safe_dump(contents))
    assert_fault(capsys, tmp_path / "runs", f'field "{field}" in {file}: {told}', "fit", *CONFIG, "-c", file)


@pytest.mark.parametrize("given_as", ["model.objective.schedule.power", "trainer.max_epoch"])
def test_a_wrong_value_of_the_command_line_is_no_files(tmp_path, capsys, given_as):
    """Nor if the name is cut short, and a file has the whole one."""
    name, kind = ("trainer.max_epochs", "int") if "epoch" in given_as else (given_as, "float")
    said = f'error: field "{name}": Expected a {kind}. Got value: much'
    assert_fault(capsys, tmp_path / "runs", said, "fit", *CONFIG, f"--{given_as}", "much")


FILES = {
    "absent": (None, "there is no config file {}."),
    "folder": ("folder", "the config {} is a folder; give a file."),
    "latin": ("name: caf\xe9".encode("latin-1"), "the config file {} is not text in UTF-8; save it as such."),
    "brackets": (b"name: [", "the config file {} is not valid YAML: "),
    "list": (b"- name", "the config file {} has no fields, as in `name: digits`."),
    "empty": (b"", "the config file {} has no fields, as in `name: digits`."),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_config_file_is_told_with_its_name(tmp_path, capsys, kind):
    contents, said = FILES[kind]
    file = tmp_path / "given.yaml"
    if contents == "folder":
        file.mkdir()
    elif contents is not None:
        file.write_bytes(contents)
    told = given.fault(["fit", *CONFIG, "-c", str(file)])
    assert told.startswith(said.format(file))
    assert given.fault([f"--config={file}"]) == told
    if kind in ("absent", "latin"):
        assert_fault(capsys, tmp_path / "runs", f"error: {told}", "fit", *CONFIG, "-c", file)


def test_a_config_may_be_text_in_place_of_a_file():
    """As jsonargparse has it; it is no overlay, which has a name to be told by."""
    assert given.fault(["-c", "{name: mine}"]) is None
    assert [place.path for place in given.places(["-c", "{name: mine}"], "name", set())] == ["name"]
    assert overlays.variant([None], None, {}) is None


def test_of_fields_with_one_name_it_is_the_one_beside_the_objects_own(tmp_path):
    """A nested object's parser knows only the end of a name, and which fields belong beside it."""
    (file := tmp_path / "a.yaml").write_text("a: {x: 1, near: 2}\nb: [{class_path: m.C, init_args: {x: 3, far: 4}}]")
    arguments = ["fit", "-c", str(file), "--c.x=5", "--c.other", "6", "--d.xx", "7"]
    assert given.config_files(arguments) == [str(file)]
    found = {
        beside: [place[:2] for place in given.places(arguments, "x", {beside})]
        for beside in ("near", "far", "other", "none")
    }
    assert found["near"] == [("a.x", str(file))]
    assert found["far"] == [("b.C.x", str(file))]
    assert found["other"] == [("c.x", None)]
    assert [path for path, _ in found["none"]] == ["c.x", "b.C.x", "a.x"]  # the last one given comes first
    assert [place.value for place in given.places(arguments, "a.x", set())] == [1]


@pytest.mark.parametrize("option", ["--runs", "--name", "-c"])
def test_a_name_that_is_not_utf8_is_told_with_what_to_do(capsys, option):
    """As a shell gives it; the message can be shown on any terminal."""
    with pytest.raises(SystemExit, match=r"^2$"):
        cli("fit", *CONFIG, option, os.fsdecode(b"caf\xe9"))
    said = capsys.readouterr().err
    assert said.startswith("error: caf\\xe9 is not UTF-8, which no config")
    assert "rename it, or give a link to it (ln -s)" in said
