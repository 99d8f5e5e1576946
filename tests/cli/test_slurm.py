"""The script of docs/reliability.md for Slurm, with stand-ins for ``srun`` and ``scontrol``: there is no Slurm here."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.cli.test_train import CONFIG, checkpoint

SRUN = """#!/bin/bash
# Starts SLURM_NTASKS tasks of a step, as the variables of Slurm's manual tell them, and notes them for the signal that
# Slurm sends to tasks; its status is the highest of theirs.
export SLURM_NNODES=1 SLURM_JOB_NODELIST=localhost SLURM_NODELIST=localhost SLURM_NODEID=0 SLURM_STEP_ID=0
for ((i = 0; i < SLURM_NTASKS; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & echo $! >>"$TASKS"
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid"; s=$?; ((s > status)) && status=$s; done
exit $status
"""
SCONTROL = '#!/bin/bash\necho "$@" >>"$REQUEUED"\n'
TINY = (*CONFIG[1:], "--trainer.accelerator", "cpu", "--model.compile", "off", "--trainer.limit_train_batches", "3")
TINY += ("--trainer.limit_val_batches", "0", "--trainer.callbacks", "null", "--trainer.devices", "2")
TINY += ("--trainer.strategy", "ddp", "--gradient_variance.every_n_epochs", "0", "--fidelity.every_n_epochs", "0")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash, which the script needs")
def test_a_job_that_runs_out_of_time_is_requeued_and_goes_on(tmp_path):
    """Two tasks, which both get the signal; the second job goes on, ends by itself and requeues nothing."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    script = re.search(r"    #SBATCH .*\n((?:    .*\n)+)", text)[1].replace("    ", "")
    assert "srun python train.py fit -c configs/cifar10.yaml --resume auto" in script
    given = " ".join(map(str, (*TINY, "--runs", tmp_path / "runs", "--trainer.max_epochs", "40")))
    (tmp_path / "job.sh").write_text(script.replace("configs/cifar10.yaml", given))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    paths = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": paths, "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}
    environment |= {"TASKS": str(tmp_path / "tasks"), "REQUEUED": str(tmp_path / "requeued"), "OMP_NUM_THREADS": "1"}
    environment |= {"SLURM_NTASKS_PER_NODE": "2"}

    def job() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", tmp_path / "job.sh"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    last = tmp_path / "runs" / "digits" / "0" / "checkpoints" / "last.ckpt"
    first, until = job(), time.monotonic() + 120
    while not last.exists() and time.monotonic() < until:
        time.sleep(0.05)
    for task in (tmp_path / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    said = first.communicate(timeout=60)[0]
    assert "Ended by SIGTERM in epoch" in said
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    cut = checkpoint(last.parents[1])
    assert 0 < cut["global_step"] < 120
    assert cut["processes"] == 2
    second = job()
    said = second.communicate(timeout=120)[0]
    assert checkpoint(last.parents[1])["global_step"] == 120, said
    assert [path.name for path in last.parents[2].iterdir()] == ["0"]
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
