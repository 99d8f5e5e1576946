"""TensorBoard's HParams tab: what a run's own event file says of its settings and of how it ended."""

import re
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
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
        *("train/loss", "val/loss", "val/evidence"),
        *(f"{split}/{name}/both" for split in splits for name in variances),
        *(f"fidelity/{split}/KD[tests.extractors.Flat]_inf" for split in ("train", "test")),
    }
    table = pd.read_csv(measured / "metrics.csv")
    for tag in tags:
        assert events.Scalars(tag)[-1].value == pytest.approx(table[tag].dropna().iloc[-1], rel=1e-6)


def test_custom_scalars_hold_samples_loss_and_variance_before_all_else(measured):
    """Every chart of the tab finds what this run has logged, and nothing but curves of its kind."""
    events, _ = plugin(measured)
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["samples", "loss", "gradient variance"]
    scalars = events.Tags()["scalars"]
    found = {
        chart.title: {name for name in scalars for tag in chart.multiline.tag if re.match(tag, name)}
        for category in layout.category
        for chart in category.chart
    }
    splits = ("train", "test")
    assert found["kernel distance to real images"] == {f"fidelity/{s}/KD[tests.extractors.Flat]_inf" for s in splits}
    assert found["Fréchet distance to real images"] == {f"fidelity/{s}/FD[tests.extractors.Flat]_inf" for s in splits}
    assert found["loss"] == {"train/loss", "val/loss"}
    assert found["evidence on held-out images"] == {"val/evidence"}
    assert found["across parameters"] == {"gradient_variance/across_parameters/both"}
    assert len(found) == 7


def test_a_vanilla_run_names_the_columns_of_the_others_and_has_no_values_there(tmp_path):
    _, data = plugin(train(tmp_path, "-c", ROOT / "configs" / "mle.yaml"))
    start = data["session_start_info"].session_start_info.hparams
    columns = {info.name for info in data["experiment"].experiment.hparam_infos}
    assert start["objective"].string_value == "mle"
    assert columns - set(start) == {"estimator", "power", "num_temperatures", "eta"}
