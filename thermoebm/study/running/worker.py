"""One run in its own process: train (or resume), evaluate on test images, and only then write DONE.

Started by an executor as ``python -m thermoebm.cli.worker RUN_DIRECTORY``. The exit status is 0 (done),
:data:`BUSY`, :data:`DAMAGED`, or anything else for a failure; the last ``error:`` line of the log then says why.
"""

import argparse
import contextlib
import ctypes
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thermoebm.study.running import folder

#: A program, called with its command-line arguments.
Program = Callable[[list[str]], object]

#: Exit status: another process is working on the run.
BUSY = 75
#: Exit status: the run's directory is damaged, so that another attempt would fail too.
DAMAGED = 65

# Seconds to wait for the run's lock: its holder may be about to end, such as a worker whose launcher was killed.
_PATIENCE = 10


def main(train: Program, evaluate: Program, arguments: list[str] | None = None) -> int:
    """Does what remains of a run.

    Args:
        train, evaluate: The programs train.py and evaluate.py.
        arguments: The worker's own arguments; None: those of the command line.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parent", type=int, default=0, help="process that this one must not outlive")
    options = parser.parse_args(arguments)
    _die_with(options.parent)
    with folder.locked(options.run, _PATIENCE) as mine:
        if not mine:
            return BUSY
        try:
            if folder.read(options.run / "DONE") is None:
                _attempt(options.run, options.threads, train, evaluate)
        except folder.Damaged as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return DAMAGED
        except Exception as error:
            traceback.print_exc()
            print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            return 1
    return 0


def _attempt(run: Path, threads: int, train: Program, evaluate: Program) -> None:
    attempts = _attempts(run)
    attempts.append({"started": time.time()})
    print(f"=== attempt {len(attempts)}, {folder.now()}", flush=True)
    folder.write(run / "attempts.json", {"attempts": attempts})
    (run / "FAILED").unlink(missing_ok=True)
    about = _describe(run)
    checkpoint = _train(train, run, threads, about["config"]["trainer"]["max_epochs"])
    _evaluate(evaluate, run, checkpoint, about["config"], about.get("evidence", "short"))
    attempts[-1]["ended"] = time.time()
    folder.write(run / "attempts.json", {"attempts": attempts})
    seconds = sum(attempt["ended"] - attempt["started"] for attempt in attempts)
    done = {"finished": folder.now(), "seconds": round(seconds, 2), "attempts": len(attempts)}
    folder.write(run / "DONE", done)


def _attempts(run: Path) -> list[dict[str, float]]:
    """Earlier attempts; one that was killed is taken to have ended when it last wrote to its log or attempts.json."""
    attempts: list[dict[str, float]] = (folder.read(run / "attempts.json") or {}).get("attempts", [])
    for attempt in attempts:
        written = [path.stat().st_mtime for path in (run / "log.txt", run / "attempts.json") if path.exists()]
        attempt.setdefault("ended", max(attempt["started"], *written))
    return attempts


def _describe(run: Path) -> dict[str, Any]:
    """Adds device and versions to run.json, which only this process knows, and returns its content."""
    import lightning
    import torch

    import thermoebm

    about = folder.read(run / "run.json")
    if about is None:
        raise folder.Damaged(f"{run / 'run.json'} is not there; move {run} away and run the study again.")
    accelerator = about["config"]["trainer"]["accelerator"]
    cuda = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    about["device"] = torch.cuda.get_device_name() if cuda else f"CPU, {_processor()}"
    about["versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "thermoebm": thermoebm.__version__,
    }
    folder.write(run / "run.json", about)
    return about


def _processor() -> str:
    """The processor's name, as far as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _train(train: Program, run: Path, threads: int, epochs: int) -> Path:
    """Runs train.py fit, from the last checkpoint if there is one; returns the checkpoint at the end of training."""
    arguments = ["fit", f"--config={run / 'config.yaml'}", f"--runs={run.parent}", f"--threads={threads}"]
    checkpoint, trained = _resumable(run)
    if checkpoint:
        arguments += [f"--ckpt_path={checkpoint}"]
    if trained < epochs:
        train(arguments)
    checkpoint = folder.last_checkpoint(run)
    if checkpoint is None:
        raise RuntimeError("training left no checkpoint; leave trainer.enable_checkpointing as it is.")
    return checkpoint


def _resumable(run: Path) -> tuple[Path | None, int]:
    """The last checkpoint, or the one before if that is damaged, and the number of epochs it has trained."""
    from thermoebm.runs import checkpoints

    last = folder.last_checkpoint(run)
    if last is None:
        return None, 0
    try:
        return last, checkpoints.epochs_trained(checkpoints.load_checkpoint(last))
    except ValueError as error:
        with contextlib.suppress(FileNotFoundError, ValueError):
            previous = last.with_name("previous.ckpt")
            trained = checkpoints.epochs_trained(checkpoints.load_checkpoint(previous))
            print(f"{error} The run goes on from {previous}.", flush=True)
            return previous, trained
        advice = f"move the folder {last.parents[1]} away and run the study again."
        raise folder.Damaged(f"{str(error).rstrip('.')}; {advice}") from error


def _evaluate(evaluate: Program, run: Path, checkpoint: Path, config: dict[str, Any], evidence: str) -> None:
    """Runs evaluate.py on test images, with the feature extractor and sample size that training measures with."""
    fidelity, data = config["fidelity"], config["data"]["init_args"]
    arguments = ["--checkpoint", checkpoint, "--output", run / "test", "--split", "test", "--gradient_variance"]
    arguments += ["--evidence", evidence]
    arguments += ["--num_samples", fidelity["num_samples"], "--extractor", fidelity["extractor"]]
    arguments += ["--protocol", fidelity["protocol"], "--root", data["root"]]
    arguments += ["--sizes", *fidelity["sizes"]] if fidelity["sizes"] else []
    arguments += [] if data["download"] else ["--no_download"]
    arguments += ["--device", "cpu"] if config["trainer"]["accelerator"] == "cpu" else []
    evaluate([*map(str, arguments)])


def _die_with(parent: int) -> None:
    """Has the system kill this process when its parent dies, so that no run goes on unwatched. This works on Linux;
    elsewhere the process goes on to its end, and until then its lock keeps others off the run."""
    if not parent or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # the parent died before the call
        os.kill(os.getpid(), signal.SIGKILL)
