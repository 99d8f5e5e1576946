"""``python -m thermoebm.study plan|run|status|collect|claims|figures|page STUDY.yaml [--output DIR]``."""

import argparse
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

from thermoebm.cli.parser import Parser
from thermoebm.runtime.collection import importing
from thermoebm.runtime.terminal import fail, outliving_readers, quieten, say
from thermoebm.runtime.units import scaled

_COMMANDS = {
    "plan": "print the runs, what they cost and what is done already",
    "run": "run what is missing, then collect, draw and write the page",
    "status": "print how the runs stand",
    "collect": "make results.csv and final.csv of what was run",
    "claims": "collect, and check the report's claims: claims.csv",
    "figures": "collect, check the claims, draw the figures and write the page",
    "page": "write index.html",
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status; faults are reported in one sentence."""
    options = _options(arguments)
    with importing():
        from thermoebm.cli.train import CLI
        from thermoebm.study.planning.definitions import StudyError
        from thermoebm.study.planning.file import read

    quieten()  # Lightning sets its loggers when it is imported
    try:
        with outliving_readers():
            study = read(options.study, CLI)
            output = options.output or Path("studies") / study.name
            return int(globals()[f"_{options.command}"](study, output, options) or 0)
    except (StudyError, ValueError, OSError) as error:
        fail(str(error))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m thermoebm.study", description="A study: many runs, one file.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, does in _COMMANDS.items():
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument("study", type=Path, help="the study file, for instance configs/study/digits.yaml")
        command.add_argument("--output", type=Path, help="the study's folder (default: studies/NAME)")
        if name == "run":
            command.add_argument("--executor", choices=["local", "ray"], default="local")
            command.add_argument("--address", help="of a Ray cluster that runs already (default: one on this machine)")
            command.add_argument("--gpus", type=float, help="GPUs of a run, with ray (default: 1 if there are any)")
        if name == "page":
            command.add_argument("--small", action="store_true", help="pictures as small as they are shown")
        if name in ("plan", "run"):
            command.add_argument("--jobs", type=int, help="runs at a time (default: one per GPU, or by cores)")
            command.add_argument("--threads", type=int, help="CPU threads of a run (default: cores shared equally)")
            command.add_argument("--runs-per-gpu", type=int, default=1, help="runs that share a GPU (default: 1)")
    arguments = sys.argv[1:] if arguments is None else arguments
    return parser.parse_args(arguments, argparse.Namespace(given=arguments))


def _command(*arguments: str) -> str:
    """What to type into a shell."""
    return f"python -m thermoebm.study {shlex.join(arguments)}"


def _plan(study: Any, output: Path, options: argparse.Namespace) -> None:
    from thermoebm.study.running import plan

    for line in plan.plan(study, output, options.jobs, options.threads, options.runs_per_gpu):
        say(line)


def _run(study: Any, output: Path, options: argparse.Namespace) -> int:
    from thermoebm.study.planning.work import posterior_steps
    from thermoebm.study.running import executors, prepare
    from thermoebm.study.running.board import Board
    from thermoebm.study.running.launch import Launcher

    where = options.executor, options.jobs, options.threads, options.runs_per_gpu, options.address, options.gpus
    executor = executors.choose(*where)
    for sentence in prepare.difference(study, output):
        say(sentence)
    prepare.prepare(study, output)
    say(f"{len(study.runs)} runs in {output}, {executor}")
    board = Board(study, output, executor.slots, posterior_steps)
    status = Launcher(study, output, executor, board).run()
    if status > 1:
        say(f"Stopped. What is done is kept; the same command goes on: {_command(*options.given)}")
    elif status == 1:
        say("Some runs failed; the same command tries them again.")
    else:
        try:
            _figures(study, output, options)
        except Exception as error:
            traceback.print_exc()
            fail(
                f"all runs are done and kept; drawing them failed ({type(error).__name__}: {error}); try again with "
                f"{_command('figures', str(options.study), '--output', str(output))}"
            )
    return status


def _status(study: Any, output: Path, options: argparse.Namespace) -> None:
    from thermoebm.study.running import board, prepare

    for line in [*prepare.difference(study, output), *board.status(study, output)]:
        say(line)


def _collect(study: Any, output: Path, options: argparse.Namespace) -> None:
    from thermoebm.study.analysis import collect

    collect.collect(output)
    say(f"{output / 'results.csv'} has a row for each run and epoch, {output / 'final.csv'} one for each run.")


def _claims(study: Any, output: Path, options: argparse.Namespace) -> None:
    from thermoebm.study.analysis import claims, collect

    _collect(study, output, options)
    _, final = collect.read_tables(output)
    checked = claims.check(final)
    collect.write_table(checked, output / "claims.csv")
    say(claims.table(checked))


def _figures(study: Any, output: Path, options: argparse.Namespace) -> None:
    from thermoebm.study.figures.drawing import draw

    _claims(study, output, options)
    draw(output)
    _page(study, output, options)


def _page(study: Any, output: Path, options: argparse.Namespace) -> None:
    from thermoebm.study.page.document import write
    from thermoebm.study.page.pictures import FULL, SMALL

    path = write(output, SMALL if getattr(options, "small", False) else FULL)
    say(f"The page is {path}, {scaled(path.stat().st_size)}B.")
