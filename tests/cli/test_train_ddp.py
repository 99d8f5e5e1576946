"""Training on two processes, as a user starts it."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_train import CONFIG, ROOT, checkpoint


def digest(tensors: Any) -> str:
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()


class Witness(pl.Callback):
    """Writes what this process drew, saw, learned and opened to a file of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.noise: list[str] = []
        self.images: list[list[str]] = []
        self.written: list[str] = []
        self.randn = torch.randn
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax"):
            self.written.append(os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else "")

    def _draw(self, *arguments: Any, **fields: Any) -> torch.Tensor:
        drawn = self.randn(*arguments, **fields)
        self.noise.append(digest([drawn]))
        return drawn

    def on_fit_start(self, *args: Any) -> None:
        torch.randn = self._draw

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: torch.Tensor, batch_idx: int) -> None:
        self.images.append([digest([x]) for x in batch])

    def on_fit_end(self, trainer: pl.Trainer, module: Any) -> None:
        torch.randn = self.randn
        seen = {
            "noise": self.noise,
            "images": self.images,
            "parameters": digest(module.state_dict().values()),
            "monitored": trainer.callback_metrics["fidelity/test/FD[pixels]_inf"].item(),
            "written": self.written,
        }
        (Path(self.folder) / f"rank-{trainer.global_rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two epochs of three steps on two processes with the shipped callbacks, all due after the second."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "witness").mkdir()
    command = [
        *(sys.executable, "train.py", "fit", *CONFIG, "--runs", folder / "runs", "--model.compile", "off"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"),
        *("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "3"),
        *("--model.prior_sampler.num_steps", "5", "--model.posterior_sampler.num_steps", "3"),
        *("--gradient_variance.splits", "[train,test]", "--fidelity.splits", "[train,test]"),
        *("--gradient_variance.num_batches", "4", "--gradient_variance.blocks", "2"),
        *("--fidelity.extractor", "pixels", "--fidelity.num_samples", "300", "--fidelity.sizes", "[100,200,300]"),
        *("--best.monitor", "fidelity/test/FD[pixels]_inf"),
        *("--trainer.callbacks+", f"{__name__}.Witness", "--trainer.callbacks.folder", folder / "witness"),
    ]
    # Without a port of a launcher's in the environment Lightning takes one that is free.
    launched = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launched}
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that both processes end with this one
        )
        try:
            code = process.wait(timeout=240)
        except subprocess.TimeoutExpired:
            code = "none: the processes wait for each other"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, f"exit status {code}\n{(folder / 'said').read_text()}"
    return folder


@pytest.fixture(scope="module")
def ranks(folder) -> list[dict[str, Any]]:
    return [json.loads((folder / "witness" / f"rank-{rank}.json").read_text()) for rank in range(2)]


def test_processes_draw_apart_and_learn_together(folder, ranks):
    """No image of an epoch and no noise in common, also in measuring; parameters and checkpoint are the same."""
    noise = [set(rank["noise"]) for rank in ranks]
    assert min(map(len, noise)) >= 2 * (6 + 16)  # prior and posterior chains of each step and each gradient measured
    assert not noise[0] & noise[1]
    for epoch in (slice(0, 3), slice(3, 6)):
        images = [image for rank in ranks for batch in rank["images"][epoch] for image in batch]
        assert len(images) == len(set(images)) == 2 * 3 * 75
    assert ranks[0]["parameters"] == ranks[1]["parameters"]
    state = checkpoint(folder / "runs" / "digits" / "0")["state_dict"]
    assert digest(state.values()) == ranks[0]["parameters"]
    assert ranks[0]["monitored"] == ranks[1]["monitored"] > 0
    best = torch.load(folder / "runs" / "digits" / "0" / "checkpoints" / "best.ckpt", weights_only=True)
    told = best["callbacks"]["BestCheckpoint"]
    assert (told["value"], told["epoch"]) == (ranks[0]["monitored"], 1)
    assert digest(best["state_dict"].values()) == ranks[0]["parameters"]


def test_each_file_is_written_once_by_the_first_process(folder, ranks):
    """Pictures, tables and events in one run directory; the metrics have each step once; nothing is complained of."""
    runs = folder / "runs"
    assert [p.name for p in (runs / "digits").iterdir()] == ["0"]
    run = runs / "digits" / "0"
    written = [Counter(p for p in rank["written"] if p.startswith(str(runs))) for rank in ranks]
    assert not written[1]
    results = {f"{name}/epoch-0002.png" for name in ("samples", "reconstructions", "integrand", "gradient_variance")}
    results |= {"gradient_variance/epoch-0002.csv", "gradient_variance/test/epoch-0002.csv", "config.yaml"}
    assert {name: written[0][str(run / name)] for name in results} == dict.fromkeys(results, 1)
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0}).Reload()
    assert len(list(run.glob("events*"))) == 1
    for name in ("samples", "reconstructions", "integrand", "gradient_variance"):
        assert [image.step for image in events.Images(f"Overview/{name}")] == [6]
    table = pd.read_csv(run / "metrics.csv")
    assert table["train/loss"].dropna().index.map(table["step"]).tolist() == list(range(6))
    assert len(table["fidelity/test/FD[pixels]_inf"].dropna()) == 1
    assert (table["cost/images_per_second"] * table["cost/seconds"]).dropna().tolist() == pytest.approx(
        [2 * 3 * 75] * 2
    )
    flops = torch.tensor(table["cost/flops"].dropna().to_numpy())  # a whole ladder at step 0 of 6 only: every tenth
    assert table["cost/flops_per_step"].dropna().tolist() == pytest.approx(
        (flops.diff(prepend=flops[:1] * 0) / 3).tolist()
    )
    assert "warning" not in (folder / "said").read_text().lower()


def test_the_table_of_the_first_process_has_the_draws_of_both(folder):
    """Its row is that of the metrics, which are means over processes of what each of them has; of both splits."""
    run = folder / "runs" / "digits" / "0"
    metrics = pd.read_csv(run / "metrics.csv")
    for split, name in [(split, name) for split in ("", "test/") for name in ("total", "sampler", "total_se")]:
        table = run / "gradient_variance" / split / "epoch-0002.csv"
        row = pd.read_csv(table, index_col="part").loc["both"]
        assert metrics[f"gradient_variance/{split}per_parameter/{name}/both"].dropna().item() == pytest.approx(
            row[name]
        )
