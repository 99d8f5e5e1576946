"""No program asks the network for anything unless a download was asked for."""

import json
import subprocess
import sys

import pytest
import torch
import yaml

from tests import ROOT
from thermoebm.applications import evaluation
from thermoebm.applications.settings import Settings
from thermoebm.callbacks import GenerationMetrics
from thermoebm.cli import evaluate
from thermoebm.data import Digits

# Python tells its audit hooks of every socket of every library, whatever it imports them as; there is no way around.
_PROGRAM = """
import json, socket, sys

asked = []

def closed(event, arguments):
    local = event == "socket.connect" and isinstance(arguments[1], str | bytes)  # a socket of this machine's own
    if event.split(".")[0] in ("socket", "urllib") and not local and event in {
        "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
        "urllib.Request",
    }:
        asked.append(f"{event}{arguments}")
        raise OSError("there is no network")

sys.addaudithook(closed)

from thermoebm.cli import evaluate, study
from thermoebm.cli.train import CLI

given = json.loads(sys.argv[1])
sys.argv = ["train.py"]
CLI(given["train"])
evaluate.main(given["evaluate"])
assert study.main(given["plan"]) == 0
assert not asked, asked
try:
    socket.create_connection(("localhost", 9))
except OSError:
    print("closed:", len(asked))
"""

_CALLBACKS = [
    {"class_path": "thermoebm.callbacks.SampleGrid", "init_args": {"every_n_epochs": 1}},
    {"class_path": "thermoebm.callbacks.ReconstructionGrid", "init_args": {"every_n_epochs": 1}},
    {"class_path": "thermoebm.callbacks.IntegrandPlot", "init_args": {"every_n_epochs": 1}},
    {
        "class_path": "thermoebm.callbacks.ChainDiagnostics",
        "init_args": {"every_n_epochs": 1, "count": 2, "long_steps": 60},
    },
    {"class_path": "thermoebm.callbacks.PriorStability", "init_args": {"every_n_epochs": 1, "count": 4}},
]


def test_nothing_connects_where_everything_is_measured(tmp_path):
    """Training, evaluation and a study's plan, with every socket closed; and no word of jsonargparse on its future."""
    config = yaml.safe_load((ROOT / "configs" / "digits.yaml").read_text())
    config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "callbacks": _CALLBACKS}
    config["trainer"]["check_val_every_n_epoch"] = 1
    config["model"]["init_args"] |= {"compile": "off"}
    for kind, steps in (("prior", 2), ("posterior", 2)):
        config["model"]["init_args"][f"{kind}_sampler"]["init_args"]["num_steps"] = steps
    config["gradient_variance"] = {"every_n_epochs": 1, "num_batches": 4, "repetitions": 2, "blocks": 2}
    config["fidelity"] = {"every_n_epochs": 1, "num_samples": 60, "extractor": "pixels", "splits": ["test"]}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(config))
    cells = [{"name": "one", "group": "one", "set": {}}]
    (tmp_path / "study.yaml").write_text(
        yaml.safe_dump({"name": "toy", "configs": ["toy.yaml"], "seeds": [0], "cells": cells})
    )
    given = {
        "train": ["fit", "--config", f"{tmp_path}/toy.yaml", "--runs", f"{tmp_path}/runs"],
        "evaluate": [
            *("--checkpoint", f"{tmp_path}/runs", "--output", f"{tmp_path}/out", "--num_samples", "60"),
            *("--evidence_images", "2", "--evidence", "short", "--extractor", "pixels", "--device", "cpu"),
        ],
        "plan": ["plan", f"{tmp_path}/study.yaml", "--output", f"{tmp_path}/study"],
    }
    command = [sys.executable, "-W", "always::DeprecationWarning", "-c", _PROGRAM, json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "closed: 1"  # the hook works
    assert "v5.0.0" not in done.stderr
    assert (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("allowed", [False, True])
def test_one_field_allows_what_measuring_downloads(allowed, monkeypatch):
    """Inception's weights, and the data set of a classifier that is another than the one trained on."""
    asked = {}

    def extractor(name, data_set, download):
        asked["weights"], asked["data set"] = download, data_set("mnist").download
        return lambda images: images

    monkeypatch.setattr("thermoebm.metrics.features.extractor", extractor)
    data = Digits(download=allowed)
    GenerationMetrics(extractor="inception", num_samples=60).prepare(data)
    assert asked == {"weights": allowed, "data set": allowed}
    asked.clear()
    evaluation.reference(data, Settings(num_samples=60, extractor="inception"))
    assert asked == {"weights": allowed, "data set": allowed}


@pytest.mark.parametrize(
    ("config", "flag", "allowed"),
    [
        (False, [], False),
        (True, [], True),
        (True, ["--no_download"], False),
        (False, ["--download"], True),
    ],
)
def test_an_evaluation_downloads_as_the_config_or_else_the_command_says(
    checkpoint, tmp_path, monkeypatch, config, flag, allowed
):
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["data"]["init_args"]["download"] = config
    torch.save(content, tmp_path / "x.ckpt")
    seen = []
    monkeypatch.setattr(Digits, "obtain", lambda self: seen.append(self.download))
    monkeypatch.setattr(evaluation, "reference", lambda data, settings: pytest.fail("enough"))
    with pytest.raises(pytest.fail.Exception, match="enough"):
        evaluate.main(["--checkpoint", f"{tmp_path}/x.ckpt", "--output", f"{tmp_path}/out", *flag])
    assert seen == [allowed]
