"""docs/reproduce/: every table and picture has its command, and the commands of its scripts are understood."""

import argparse
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import ROOT
from tests.program import Parsed, parsers
from thermoebm.cli import overlays
from thermoebm.cli.config import ConfigParser, short

DOCS = ROOT / "docs"
INDEX = DOCS / "reproduce" / "README.md"
SCRIPTS = sorted(INDEX.parent.glob("*.sh"))
PICTURES = {".png", ".svg", ".webp", ".gif", ".jpg"}


class Table(NamedTuple):
    section: str  # page.md#anchor
    title: str  # its first two headings that are not empty
    rows: list[list[str]]

    @property
    def measured(self) -> bool:
        """Whether half of its cells, the first column apart, begin with a number that is no code."""
        cells = [cell for row in self.rows for cell in row[1:]]
        return sum(bool(re.match(r"[-+±≥≤<>]?[\d.]*\d", cell)) for cell in cells) >= len(cells) / 2


def tables(page: Path) -> list[Table]:
    """The tables of a page, but for those in blocks of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found, anchor, lines = [], "", text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("#"):
            anchor = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        if re.fullmatch(r"\|[ :|-]+\|", line):
            cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in lines[i - 1 :]]
            rows = cells[2 : next((n for n, row in enumerate(cells) if not row), len(cells))]
            found.append(Table(f"{page.name}#{anchor}", ", ".join([cell for cell in cells[0] if cell][:2]), rows))
    return found


ENTRIES = [row for table in tables(INDEX) for row in table.rows]
LINKS = [
    (text.replace("\\", ""), target)
    for row in ENTRIES
    for text, target in re.findall(r"\[((?:\\.|[^\]])*)\]\(([^)]+)\)", row[0])
]


def unlisted(found: list[Table], links: list[tuple[str, str]]) -> list[str]:
    """Tables with numbers that no link names; the only one of its section needs no name."""
    measured = [table for table in found if table.measured]
    alone = {table.section for table in measured if sum(table.section == other.section for other in measured) == 1}
    return [
        f"{table.section}: {table.title}"
        for table in measured
        if not any(
            target == f"../{table.section}" and (text == table.title or table.section in alone)
            for text, target in links
        )
    ]


def test_every_table_with_numbers_has_a_row():
    found = [table for page in sorted(DOCS.glob("*.md")) for table in tables(page)]
    assert sum(table.measured for table in found) > 35
    assert unlisted(found, LINKS) == []
    new = Table(found[0].section, "a, b", [["c", "1.5"]])
    assert unlisted([*found, new], LINKS) == [f"{new.section}: a, b"]


def test_every_picture_has_a_row():
    listed = {(INDEX.parent / target).resolve() for _, target in LINKS}
    for pattern in re.findall(r"`([\w-]+/\*\.\w+)`", " ".join(row[0] for row in ENTRIES)):
        listed |= {*DOCS.glob(pattern)}
    pictures = [path for path in DOCS.rglob("*") if path.suffix in PICTURES and "_site" not in path.parts]
    assert len(pictures) > 30
    assert [path.name for path in pictures if path not in listed] == []


def test_rows_name_what_there_is():
    """Pages, sections and tables of the first column; files, modules and targets of the commands."""
    titles = {page.name: tables(page) for page in DOCS.glob("*.md")}
    for text, target in LINKS:
        path, _, anchor = target.partition("#")
        assert (INDEX.parent / path).is_file(), target
        in_section = [table for table in titles.get(Path(path).name, []) if table.section.endswith(f"#{anchor}")]
        assert not anchor or text in [t.title for t in in_section] or sum(t.measured for t in in_section) == 1, text
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [code for row in ENTRIES for code in re.findall(r"`([^`]+)`", row[1])]
    for code in named:
        for module in re.findall(r"-m ([\w.]+)", code):
            assert importlib.util.find_spec(module), code
        for file in re.findall(r"[\w/-]+\.(?:py|sh|yaml)\b", code):
            assert (ROOT / file).is_file(), code
        if code.startswith("make "):
            assert code.split()[1] in targets, code
    assert {f"bash {path.relative_to(ROOT)}" for path in SCRIPTS} <= {re.sub(r"^\w+=\d ", "", code) for code in named}


def commands(script: Path, folder: Path, **variables: str) -> list[list[str]]:
    """The arguments of each call of Python in a script, which is run with a stand-in for it."""
    stand_in = folder / "python"
    stand_in.write_text('#!/bin/bash\nprintf "%q " "$@"\necho\n')
    stand_in.chmod(0o755)
    environment = os.environ | {"PYTHON": str(stand_in), "DATA": "data", "RUNS": "runs", "OUT": str(folder)} | variables
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def program():
    return parsers()


@pytest.mark.parametrize("script", [*SCRIPTS, "WIDE"], ids=lambda script: getattr(script, "stem", script))
def test_the_commands_of_a_script_are_understood(script, program, tmp_path, monkeypatch):
    plain = argparse.ArgumentParser.parse_args

    def parse_args(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        raise Parsed

    monkeypatch.chdir(ROOT)
    wide = {"WIDE": "1"} if script == "WIDE" else {}
    called = commands(INDEX.parent / "colour.sh" if wide else script, tmp_path, **wide)
    assert called
    for name, *arguments in called:
        if name == "train.py":
            ConfigParser.given = arguments[1:]
            parser = program._parser(arguments[0])
            config = parser.parse_args(arguments[1:])
            overlays.variant(config.config or [], config.variant, short(config.as_dict()))
            continue
        if name == "-m":
            found = importlib.util.find_spec(arguments.pop(0))
            if found.submodule_search_locations:
                found = importlib.util.find_spec(f"{found.name}.__main__")
            name = found.origin
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
            patch.setattr(sys, "argv", [name, *arguments])
            with pytest.raises(Parsed):
                runpy.run_path(str(ROOT / name), run_name="__main__")
        for word in arguments:
            assert not word.startswith("configs/") or (ROOT / word).is_file(), word
