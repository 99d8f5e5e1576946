"""Training on two machines, which are two network namespaces of this one, started by torchrun."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from tests import ROOT
from tests.cli.test_train import CONFIG, checkpoint

pytestmark = pytest.mark.slow
TINY = (*CONFIG, "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--model.compile", "off")
TINY += ("--trainer.limit_train_batches", "5", "--trainer.limit_val_batches", "0", "--trainer.callbacks", "null")
TINY += ("--model.energy.hidden_dim", "16", "--model.generator.features", "4", "--trainer.enable_progress_bar", "false")
LAUNCHED = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in LAUNCHED} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True, scope="module")
def namespaces():
    """Whether this user may make network namespaces, and has what joins and starts them."""
    needed = Path(sys.executable).with_name("torchrun")
    if not (needed.exists() and shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("torchrun, ip or unshare is not there")
    enter = ["unshare", "--map-root-user", "--net", "--mount"]
    joined = [*enter, "sh", ROOT / "tests" / "cli" / "nodes.sh", "true", "true"]
    done = subprocess.run(joined, capture_output=True, text=True, check=False)
    if done.stdout != "statuses 0 0\n":
        pytest.skip(f"network namespaces are not allowed here: {done.stderr.strip()}")


def train(folder: Path, *arguments: str, cut: Path | None = None) -> tuple[str, list[str]]:
    """Trains on both nodes; their exit statuses, and what each wrote to stderr."""
    launcher = [
        Path(sys.executable).with_name("torchrun"),
        "--nnodes",
        2,
        "--nproc_per_node",
        1,
        "--master_port",
        29511,
    ]
    program = ["train.py", "fit", *TINY, "--trainer.devices", 1, "--trainer.num_nodes", 2, "--runs", folder, *arguments]
    commands = [
        f"{' '.join(map(str, [*launcher, '--node_rank', rank, '--master_addr', '$MASTER_ADDR', *program]))} "
        f"> {folder}/{rank}.txt 2>&1"
        for rank in (0, 1)
    ]
    nodes = ["unshare", "--map-root-user", "--net", "--mount", "sh", "tests/cli/nodes.sh", *commands]
    nodes += [] if cut is None else [str(cut)]
    done = subprocess.run(nodes, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240)
    return done.stdout, [(folder / f"{rank}.txt").read_text() for rank in (0, 1)]


def test_two_machines_train_what_two_processes_of_one_do(tmp_path):
    """Bit by bit."""
    statuses, said = train(tmp_path, "--trainer.max_epochs", "2")
    assert statuses == "statuses 0 0\n", said
    program = [sys.executable, "train.py", "fit", *TINY, "--trainer.devices", "2", "--trainer.max_epochs", "2"]
    one = tmp_path / "one"
    subprocess.run([*program, "--runs", one], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    two, one = (checkpoint(folder / "digits" / "0") for folder in (tmp_path, one))
    assert two["global_step"] == one["global_step"] == 10
    for name, value in one["state_dict"].items():
        assert torch.equal(two["state_dict"][name], value), name


def test_a_cable_that_is_pulled_ends_both_in_a_sentence(tmp_path):
    """Nothing closes the connection: collective operations alone would wait for half an hour."""
    last, cut = tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt", tmp_path / "cut"
    pulled: list[float] = []

    def pull() -> None:
        end = time.monotonic() + 120
        while not last.exists() and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(3)
        cut.touch()
        pulled.append(time.monotonic())

    (waits := threading.Thread(target=pull)).start()
    statuses, said = train(tmp_path, "--trainer.max_epochs", "500", cut=cut)
    waits.join()
    assert time.monotonic() - pulled[0] < 30
    assert statuses == "statuses 1 1\n"  # torchrun's
    for rank, lines in enumerate(said):
        (error,) = (line for line in lines.splitlines() if line.startswith("error: "))
        assert error.startswith(f"error: Process {rank + 1} of 2 ends, since process {2 - rank} was lost in epoch ")
        assert str(last) in error
    assert checkpoint(last.parents[1])["global_step"] > 0
