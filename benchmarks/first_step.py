"""How long until the first step, and what compiling gives back: python -m benchmarks.first_step

Runs train.py's command line in a process of its own for each way to compile, from an empty cache of torch's compiler
and once more, and prints the seconds from "Writing to ..." to the end of the first step, those of the whole program,
and of a later step.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

# Way -> the model's field `compile`, and the number of steps in a compiled function on a CPU (None: the library's).
WAYS: dict[str, tuple[str, int | None]] = {
    "auto": ("auto", None),
    "off": ("off", None),
    "on": ("on", None),
    "block-1": ("on", 1),
    "block-3": ("on", 3),
    "block-5": ("on", 5),
}

PROGRAM = """
import sys
import thermoebm
from thermoebm.modules import chains
chains.BLOCK = int(sys.argv.pop(1)) or chains.BLOCK
from thermoebm.cli.train import CLI
CLI()
"""


def run(way: str, arguments: Sequence[str], cache: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds to the first step, of the whole run, and of a step of its last epoch."""
    compile, block = WAYS[way]
    command = [sys.executable, "-c", PROGRAM, str(block or 0), "fit", *arguments]
    command += ["--model.compile", compile, "--name", "run", "--runs", str(folder)]
    # An empty cache for kernels, and for CUDA's too.
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
    began = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    whole = time.perf_counter() - began
    (table,) = folder.glob("run*/0/metrics.csv")
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["cost/seconds_per_step"]]
    return float(rows[0]["cost/seconds_first_step"]), whole, float(rows[-1]["cost/seconds_per_step"])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.first_step", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--ways", default="off,block-1,block-3,block-5", help=f"of {', '.join(WAYS)}; default %(default)s"
    )
    parser.add_argument("--caches", default="empty,full", help="default %(default)s; full needs empty before it")
    parser.add_argument("arguments", nargs="*", help="of train.py fit, after --; default: --config configs/digits.yaml")
    options = parser.parse_args(argv)
    arguments = options.arguments or ["--config", "configs/digits.yaml"]
    print("| way | cache | first step s | whole run s | later step ms |\n|---|---|---|---|---|")
    for way in options.ways.split(","):
        with tempfile.TemporaryDirectory() as cache:
            for state in options.caches.split(","):
                with tempfile.TemporaryDirectory() as folder:
                    first, whole, step = run(way, arguments, Path(cache), Path(folder))
                print(f"| {way} | {state} | {first:.1f} | {whole:.1f} | {1e3 * step:.1f} |", flush=True)


if __name__ == "__main__":
    main()
