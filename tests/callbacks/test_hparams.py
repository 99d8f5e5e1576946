"""TensorBoard: what a run's own event file says of its settings and of how it ended, and what it opens on."""

from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.cli.test_train import ROOT, SHORT, cli

MEASURED = [
    *("--gradient_variance.every_n_epochs", 2, "--gradient_variance.splits", "[train,test]"),
    *("--fidelity.every_n_epochs", 2, "--fidelity.extractor", "tests.extractors.Flat", "--fidelity.num_samples", 80),
    *("--fidelity.sizes", "[40,60,80]", "--fidelity.splits", "[train,test]", "--trainer.check_val_every_n_epoch", 1),
]


def train(folder: Path, *arguments: object) -> Path:
    cli(*("fit", *SHORT, "--trainer.max_epochs", 2, "--trainer.limit_train_batches", 2), "--runs", folder, *arguments)
    (run,) = (path.parent for path in folder.rglob("metrics.csv"))
    return run


def plugin(run: Path) -> tuple[EventAccumulator, dict[str, HParamsPluginData]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    contents = events.PluginTagToContent("hparams")
    return events, {tag.rpartition("/")[2]: HParamsPluginData.FromString(data) for tag, data in contents.items()}


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """The folder of a run that measures everything."""
    return train(tmp_path_factory.mktemp("runs"), "--seed_everything", 5, *MEASURED)


def test_a_run_tells_its_settings_and_the_metrics_it_ended_with(measured):
    """In its one event file, and no folder below; each metric's last scalar is that of the table."""
    events, data = plugin(measured)
    assert len(list(measured.parents[1].rglob("events*"))) == 1
    start = data["session_start_info"].session_start_info.hparams
    told = {name: value.string_value or value.number_value for name, value in start.items()}
    assert told == {
        **{"dataset": "Digits", "objective": "ti", "estimator": "endpoints", "power": 6.0, "batch_size": 75},
        **{"num_temperatures": 10, "posterior_steps": 3, "prior_steps": 5, "eta": 0.0, "features": 8, "seed": 5},
    }
    assert data["session_end_info"].HasField("session_end_info")
    experiment = data["experiment"].experiment
    assert {info.name for info in experiment.hparam_infos} == set(told)
    tags = [info.name.tag for info in experiment.metric_infos]
    splits = ("gradient_variance", "gradient_variance/test")
    variances = ("across_parameters", "per_parameter/total", "per_parameter/normalised")
    assert set(tags) == {
        *("train/loss", "val/loss", "val/short_run_evidence"),
        *(f"{split}/{name}/both" for split in splits for name in variances),
        *(f"fidelity/{split}/KD[tests.extractors.Flat]_inf" for split in ("train", "test")),
    }
    table = pd.read_csv(measured / "metrics.csv")
    for tag in tags:
        assert events.Scalars(tag)[-1].value == pytest.approx(table[tag].dropna().iloc[-1], rel=1e-6)


def test_tensorboard_opens_on_pictures_distances_loss_and_variance(measured):
    """The first group by name holds them, with the values of the metrics that they repeat."""
    events, _ = plugin(measured)
    tags = events.Tags()
    assert min([*tags["scalars"], *tags["images"]]).startswith("Overview/")
    names = {tag.removeprefix("Overview/") for tag in tags["scalars"] if tag.startswith("Overview/")}
    assert names == {
        *("train/loss", "val/loss", "val/short_run_evidence"),
        *(f"gradient_variance/{name}/both" for name in ("across_parameters", "per_parameter/total")),
        "gradient_variance/per_parameter/normalised/both",
        *(f"fidelity/{s}/{d}[tests.extractors.Flat]_inf" for s in ("train", "test") for d in ("KD", "KD-rbf", "FD")),
    }
    for name in names:
        shown, logged = ([(s.step, s.value) for s in events.Scalars(tag)] for tag in (f"Overview/{name}", name))
        assert shown == logged
    pictures = {"samples", "reconstructions", "integrand", "gradient_variance"}
    assert pictures <= {tag.split("/")[1] for tag in tags["images"] if tag.startswith("Overview/")}


def test_a_vanilla_run_names_the_columns_of_the_others_and_has_no_values_there(tmp_path):
    _, data = plugin(train(tmp_path, "-c", ROOT / "configs" / "mle.yaml"))
    start = data["session_start_info"].session_start_info.hparams
    columns = {info.name for info in data["experiment"].experiment.hparam_infos}
    assert start["objective"].string_value == "mle"
    assert columns - set(start) == {"estimator", "power", "num_temperatures", "eta"}
