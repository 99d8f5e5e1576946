"""The parser of a run's config."""

import json

import pytest
import yaml

from tests import ROOT
from thermoebm.cli.config import ConfigParser, whole_numbers_first
from thermoebm.cli.train import CLI
from thermoebm.modules import LatentEBM
from thermoebm.study.planning.compose import compose


@pytest.mark.parametrize("name", ["trainer.limit_train_batches", "trainer.overfit_batches"])
def test_one_is_a_batch_and_one_point_nought_is_all_of_them(name):
    """Where the type has float first, as Python may have met it; other fields stay what they are."""
    parser = ConfigParser()
    for field in (name, "trainer.other"):
        parser.add_argument(f"--{field}", type=float | int | None)
    whole_numbers_first(parser)
    for text, value in (("1", 1), ("1.0", 1.0)):
        parsed = parser.parse_args([f"--{name}={text}", "--trainer.other=1"])
        assert (parsed[name], type(parsed[name])) == (value, type(value))
        assert type(parsed["trainer.other"]) is float


@pytest.fixture(scope="module")
def parser():
    parser = ConfigParser()
    parser.add_subclass_arguments(LatentEBM, "model")
    return parser


OBJECTIVE = "thermoebm.objectives.ThermodynamicIntegration"
MODEL = [
    *("--model=thermoebm.modules.LatentEBM", "--model.energy=EnergyMLP", "--model.generator=ConvGenerator"),
    *("--model.energy.latent_dim=8", "--model.generator.latent_dim=8", "--model.generator.image_shape=[1, 8, 8]"),
]


def dumped(parser, *arguments):
    """The evidence schedule and the objective's, as a config has them; YAML and JSON have the same."""
    parsed = parser.parse_args([*MODEL, f"--model.objective={OBJECTIVE}", *arguments])
    whole = yaml.safe_load(parser.dump(parsed, format="yaml"))
    assert json.loads(parser.dump(parsed, format="json")) == whole
    return schedules(whole)


def schedules(config):
    model = config["model"]["init_args"]
    return model.get("evidence_schedule"), model["objective"]["init_args"].get("schedule")


def test_a_power_law_is_written_without_its_class(parser):
    """As when there was no other schedule; given with its class or without, and in a file or on the command line."""
    of_the_model = {"num_temperatures": 10, "power": 6.0, "reading": "intervals"}
    assert dumped(parser) == (of_the_model, of_the_model | {"power": 1.0})
    for given in (
        ["--model.objective.schedule.power=3"],
        ["--model.objective.schedule={power: 3}"],
        ["--model.objective.schedule={class_path: thermoebm.schedules.PowerLaw, init_args: {power: 3}}"],
        [f"--model.objective.schedule{end}" for end in ("=Geometric", "=PowerLaw", ".power=3")],
    ):
        assert dumped(parser, *given) == (of_the_model, of_the_model | {"power": 3.0})


def test_only_what_differs_of_a_schedule_is_written_where_defaults_are_left_out():
    """The settings that the hashes of studies are computed from."""
    digits, field = [ROOT / "configs" / "digits.yaml"], "model.objective.schedule"
    assert schedules(compose(CLI, digits, {}, 0).settings) == (None, {"power": 6.0})
    changed = {"model.evidence_schedule.num_temperatures": 5, f"{field}.power": 1.0}
    assert schedules(compose(CLI, digits, changed, 0).settings) == ({"num_temperatures": 5}, None)
    adaptive = {f"{field}": "thermoebm.schedules.Adaptive", f"{field}.rate": 0.1}
    written = {"class_path": "thermoebm.schedules.Adaptive", "init_args": {"rate": 0.1}}
    assert schedules(compose(CLI, digits, adaptive, 0).settings) == (None, written)


def test_other_schedules_are_written_with_their_class_and_read_again(parser):
    """A field of the same name as the default's, such as a power, would take that one's value."""
    written = dumped(parser, "--model.objective.schedule=Adaptive", "--model.objective.schedule.rate=0.1")[1]
    fields = {"num_intervals": 10, "initial_power": 6.0, "rate": 0.1}
    assert written == {"class_path": "thermoebm.schedules.Adaptive", "init_args": fields}
    assert dumped(parser, f"--model.objective.schedule={json.dumps(written)}")[1] == written
