"""What the pages show: blocks of code, and commands, from README.md and docs/."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
#: What stands for the rest of a command in a table, by program; and what names no file.
REST = {
    "train.py": "fit -c configs/digits.yaml",
    "evaluate.py": "--checkpoint runs/digits/0 --output out",
}
PLACEHOLDER = re.compile(r"[A-Z]+(\.yaml)?")
_END = {"|", "&&", "||", "&", ";", ">", ">>"}


class Block(NamedTuple):
    page: Path
    language: str  # of a fenced block; "shell" of an indented one
    text: str
    output: str  # the block of text that follows it at once, if there is one


class Command(NamedTuple):
    page: Path
    program: str  # a file, or "-m package.module", or "make"
    arguments: tuple[str, ...]
    inline: bool  # within a sentence or a table

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.program} {shlex.join(self.arguments)}"


def blocks(page: Path) -> list[Block]:
    """The fenced and the indented blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    pattern = r"^```(\w*)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?|(?:(?<=\n\n)|(?<=\A))((?: {4}[^\n]*\n|\n(?= {4}))+)"
    for fence in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        language, code, output, indented = fence.groups()
        if indented is None:
            found.append(Block(page, language, code, output or ""))
        else:
            found.append(Block(page, "shell", re.sub(r"^ {4}", "", indented, flags=re.MULTILINE), ""))
    return found


def commands(page: Path) -> list[Command]:
    """The commands of a page that start a program of this project."""
    found: list[Command] = []
    for block in blocks(page):
        if block.language in ("shell", "bash", "sh", "console"):
            found += _of_lines(page, block.text)
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ {4}.*$", "", prose, flags=re.MULTILINE)
    for part in re.split(r"\n\s*\n|\n(?=\|)", prose):
        for code in re.findall(r"`([^`]+)`", part):
            words = " ".join(code.split()).replace("\\|", "|")
            if words.startswith("... "):
                words = f"python train.py {REST['train.py']} {words[4:]}"
            if command := _command(page, words, inline=True):
                found.append(command)
    return found


def _of_lines(page: Path, text: str) -> Iterator[Command]:
    variables: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if given := re.fullmatch(r'(\w+)="([^"]*)"(?:\s*#.*)?', line.strip()):
            variables[given[1]] = given[2]
            continue
        line = re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), line)
        if command := _command(page, line, inline=False):
            yield command


def _command(page: Path, line: str, inline: bool) -> Command | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # prose with one quotation mark
        return None
    words = words[: next((i for i, word in enumerate(words) if word in _END), len(words))]
    if words[:1] == ["make"]:
        return Command(page, "make", tuple(word for word in words[1:] if "=" not in word), inline)
    is_python = next((i for i, word in enumerate(words) if re.fullmatch(r"(.*/)?python|torchrun", word)), None)
    if is_python is None:
        return None
    rest = words[is_python + 1 :]
    script = next((i for i, word in enumerate(rest) if re.fullmatch(r"(?!-)[\w/]+\.py", word)), None)
    if script is not None:
        program, rest = rest[script], rest[script + 1 :]
        rest = [part for word in rest for part in (shlex.split(REST.get(program, "data")) if word == "..." else [word])]
        return Command(page, program, tuple(rest), inline)
    if rest[:1] == ["-m"] and rest[1].split(".")[0] in ("thermoebm", "benchmarks", "tests"):
        return Command(page, f"-m {rest[1]}", tuple(rest[2:]), inline)
    return None
