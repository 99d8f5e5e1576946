"""What README.md and docs/ show: commands parse with the parsers of the programs, and Python code compiles or runs."""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import math
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import ROOT
from tests.pages import PAGES, PLACEHOLDER, Block, Command, blocks, commands
from tests.program import Parsed, Program, parsers
from thermoebm.cli import overlays
from thermoebm.cli.config import ConfigParser, short
from thermoebm.cli.train import CLI
from thermoebm.densities import GaussianPrior
from thermoebm.study.planning.file import read

#: Each once, at the first page that has it.
COMMANDS = list({(c.program, c.arguments): c for page in reversed(PAGES) for c in reversed(commands(page))}.values())
PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]
#: Study files that a page tells its reader to write, by name, and the text of each.
STUDIES = {
    f"{name[1]}.yaml": block.text
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and (name := re.search(r"^name: (\w+)$", block.text, re.MULTILINE))
}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def program():
    return parsers()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that a reader starts from: the repository's files, and those that the pages say to write."""
    for name in ("configs", "train.py", "evaluate.py", "benchmarks", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in PYTHON:
        if name := re.match(r"# (\w+\.py)\n", block.text):
            (tmp_path / name[1]).write_text(block.text)
    for name, text in STUDIES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "runs" / "digits" / "0").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "0" / "config.yaml").symlink_to(ROOT / "configs" / "digits.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def trained(program: Program, subcommand: str, arguments: list[str]) -> None:
    """Parses as train.py does, and names the run; arguments that only print are left out."""
    if "--print_config" in arguments:
        arguments.remove("--print_config")
    ConfigParser.given = arguments
    parser = program._parser(subcommand)
    config = parser.parse_args(arguments)
    if subcommand == "fit":
        overlays.variant(config.config or [], config.variant, short(config.as_dict()))


def started(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts a program that has argparse, and ends it once its arguments are parsed."""
    program = command.program
    if program.startswith("-m"):
        found = importlib.util.find_spec(program[3:])
        if found is not None and found.submodule_search_locations:
            found = importlib.util.find_spec(f"{program[3:]}.__main__")
        path = ROOT / str(found and found.origin)
    else:
        path = ROOT / program
    assert path.is_file(), f"{command}: there is no such program"
    if "parse_args(" not in path.read_text(encoding="utf-8") + _main_of(path):
        assert not command.arguments, f"{command}: it takes no arguments"
        return
    plain = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        plain(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", [str(path), *command.arguments])
    with pytest.raises(Parsed):
        runpy.run_path(str(path), run_name="__main__")


def _main_of(path: Path) -> str:
    """The code of the program that a file of few lines starts."""
    started = re.findall(r"from (thermoebm\.cli[\w.]*) import", path.read_text(encoding="utf-8"))
    return "".join((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8") for name in started)


def mentioned(command: Command) -> bool:
    """Whether a sentence only names a program, or a part of it, without what it needs."""
    return command.inline and not any(word.startswith("-") or "/" in word for word in command.arguments)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_parses(command, program, here, monkeypatch):
    assert len(COMMANDS) > 100
    arguments = list(command.arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            if command.program == "make":
                assert {*arguments} <= {*TARGETS}
            elif command.program == "train.py" and mentioned(command):
                assert arguments[0] in CLI.subcommands()
            elif command.program == "train.py":
                trained(program, arguments[0], arguments[1:])
            elif mentioned(command) and command.program.startswith("-m thermoebm"):
                assert importlib.util.find_spec(command.program[3:]) is not None
            else:
                started(command, monkeypatch)
    except SystemExit as ended:
        if ended.code:  # --data.help ends with 0
            pytest.fail(f"{command}\n{said.getvalue()}")


def test_the_files_that_commands_read_are_there(here):
    """Configs and studies, those that a page says to write among them; runs and images are the reader's."""
    missing = [
        f"{command}: {word}"
        for command in COMMANDS
        for word in command.arguments
        if word.endswith(".yaml") and not word.startswith("runs/")
        if not Path(word).is_file() and not PLACEHOLDER.fullmatch(word)
    ]
    assert missing == []


def test_the_study_of_the_page_on_claims_has_as_many_runs_as_it_says(here):
    assert len(read(here / "power.yaml", CLI).runs) == 12


def _title(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}: {block.text.splitlines()[0]}"


@pytest.mark.parametrize("block", PYTHON, ids=_title)
def test_python_code_compiles_and_imports_what_exists(block):
    tree = ast.parse(block.text)
    compile(tree, _title(block), "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.util.find_spec(inner), inner


@pytest.mark.parametrize("block", [block for block in PYTHON if block.output], ids=_title)
def test_python_code_prints_what_the_page_says(block):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, _title(block), "exec"), {"__name__": "page"})
    assert printed.getvalue().split() == block.output.split()


def test_the_sampler_of_a_page_has_the_stationary_law_that_it_states(here):
    """On N(0, 1) the variance is 1/(1 - s/2), for every memory: within four standard errors of 40,000 chains."""
    underdamped = importlib.import_module("mysampler").Underdamped
    noise = torch.Generator().manual_seed(0)
    density = GaussianPrior(1.0)
    for memory in (0.0, 0.5, 0.9):
        kernel = underdamped(0.5, 100, memory)
        z = torch.randn(40_000, 1, generator=noise)
        state = kernel.init(density, z)
        for _ in range(kernel.num_steps):
            state, _ = kernel.step(density, state, torch.randn(z.shape, generator=noise))
        truth = 1 / (1 - 0.5 / 2)
        assert abs(state.z.square().mean() - truth) < 4 * truth * math.sqrt(2 / len(z))


def test_the_tests_that_pages_in_folders_name_are_there():
    named = [name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8"))]
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
