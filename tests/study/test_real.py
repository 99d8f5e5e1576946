"""A study with real trainings: what they compute is what was planned, and a kill changes nothing."""

import contextlib
import csv
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_train import SHORT, cli
from tests.study.planning.test_file import CONFIGS, changed, write
from thermoebm.cli.train import CLI
from thermoebm.runtime.step_time import Rates
from thermoebm.study.planning.file import read
from thermoebm.study.planning.traces import Machine
from thermoebm.study.planning.work import Counter
from thermoebm.study.running import folder


@pytest.mark.slow
def test_operations_are_counted_as_a_run_logs_them(tmp_path):
    for overlay in ("mle.yaml", "ti.yaml", "estimators/endpoints.yaml"):
        overrides = {
            "trainer.max_epochs": 1,
            "model.init_args.prior_sampler.init_args.num_steps": 5,
            "model.init_args.posterior_sampler.init_args.num_steps": 3,
        }
        cell = {"name": "c", "group": "g", "configs": [str(CONFIGS / overlay)], "set": overrides}
        study = read(write(tmp_path, changed(cells=[cell])), CLI)
        _, _ = cli("fit", *SHORT, "--config", CONFIGS / overlay, "--runs", tmp_path / overlay, "--variant", "x")
        with next((tmp_path / overlay).rglob("metrics.csv")).open() as file:
            logged = [float(row["cost/flops"]) for row in csv.DictReader(file) if row["cost/flops"]]
        assert Counter(lambda cell: Machine(Rates(1e9, 1e9, 1e9, 1e-6, 1e9))).work(
            study.cells[0]
        ).training.flops == pytest.approx(logged[-1], rel=1e-6)  # logged in float32


REAL = {
    "trainer.max_epochs": 3,
    "trainer.check_val_every_n_epoch": 3,
    "gradient_variance.every_n_epochs": 0,
    "fidelity.num_samples": 100,
    "fidelity.extractor": "pixels",
    "fidelity.every_n_epochs": 3,
    "model.init_args.compile": "off",
    "model.init_args.prior_sampler.init_args.num_steps": 5,
    "model.init_args.posterior_sampler.init_args.num_steps": 3,
}


WITHOUT_FIGURES = """
import sys
from thermoebm.cli import study
study._figures = lambda *_: None
sys.exit(study.main())
"""


@pytest.mark.slow
def test_a_study_killed_while_it_trains_ends_as_one_that_was_not(tmp_path):
    """The whole program, with train.py and evaluate.py themselves; two minutes of start-up on a busy machine."""
    cell = {"name": "p", "group": "power", "configs": [str(CONFIGS / "ti.yaml")]}
    path = write(tmp_path, changed(seeds=[0], set=REAL, cells=[cell]))

    def command(output: str) -> list[str]:
        """The study's own; that of the killed one does not draw figures a second time."""
        program = ["-m", "thermoebm.study"] if output == "whole" else ["-c", WITHOUT_FIGURES]
        return [
            sys.executable,
            *program,
            "run",
            str(path),
            *("--jobs", "1", "--threads", "1"),
            "--output",
            str(tmp_path / output),
        ]

    for number in (signal.SIGTERM, signal.SIGKILL):
        launcher = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until, begun = time.monotonic() + 400, time.time()
        while time.monotonic() < until and not any(
            last.stat().st_mtime > begun for last in tmp_path.glob("killed/runs/*/0/checkpoints/last.ckpt")
        ):
            time.sleep(0.02)
        launcher.send_signal(number)
        assert launcher.wait() == (143 if number == signal.SIGTERM else -number)
    (killed,) = tmp_path.glob("killed/runs/*")
    assert "Ended by SIGTERM in epoch" in (killed / "log.txt").read_text()
    assert not (killed / "DONE").exists()
    both = [subprocess.Popen(command(output), stdout=subprocess.DEVNULL) for output in ("killed", "whole")]
    assert [launcher.wait() for launcher in both] == [0, 0]
    (whole,) = tmp_path.glob("whole/runs/*")
    assert folder.read(killed / "DONE")["attempts"] == 3
    assert folder.read(whole / "DONE")["attempts"] == 1
    assert killed.name == whole.name

    def logged(place: Path) -> list[dict[str, str]]:
        with (place / "0" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        timed = (
            "cost/seconds",
            "cost/peak_memory",
            "cost/flops_per_second",
            "cost/images_per_second",
            "cost/of_matrix",
        )
        return [{name: value for name, value in row.items() if not name.startswith(timed)} for row in rows]

    assert logged(killed) == logged(whole)
    assert len(logged(whole)) > 3
    measured = [folder.read(place / "test" / "metrics.json")["results"][0] for place in (killed, whole)]
    for result in measured:
        result.pop("checkpoint")
    assert measured[0] == measured[1]
    assert any(name.startswith("gradient_variance/") for name in measured[0])
    about = folder.read(whole / "run.json")
    assert about["device"]
    assert set(about["versions"]) == {"python", "torch", "lightning", "thermoebm"}
    assert about["config"]["trainer"]["max_epochs"] == 3
    damaged = killed / "0" / "checkpoints" / "last.ckpt"
    damaged.write_bytes(b"no checkpoint")
    (killed / "DONE").unlink()
    assert subprocess.run(command("killed"), stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert logged(killed) == logged(whole)  # from the checkpoint of the epoch before
    for kept in (damaged, damaged.with_name("previous.ckpt"), damaged.with_name("best.ckpt")):
        kept.unlink(missing_ok=True)
        kept.write_bytes(b"no checkpoint")
    (killed / "DONE").unlink()
    with contextlib.redirect_stdout(io.StringIO()):
        said = subprocess.run(command("killed"), capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert f"{damaged} is not a readable checkpoint" in said.stdout
    assert f"move the folder {killed / '0'} away and run the study again." in said.stdout
    assert damaged.read_bytes() == b"no checkpoint"
