"""Does a process keep the memory that it frees, as a program that asked for it and as one that did not?"""

import os
import platform
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from thermoebm.cli import evaluate as evaluation_cli
from thermoebm.cli import train as cli

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")

# A tensor of 40 MiB, gone before the next round takes it again: 10,240 pages a round if its memory was given back.
PAGES = 10 * 10_240
FAULTS = """
import resource, sys, torch
from thermoebm.runtime.allocator import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(keep_freed_memory() if sys.argv[1] == "ask" else None)
faults(20)  # until the heap has a gap of that size which nothing small has settled in
print(faults(10))
"""


def faults(ask, **variables):
    """What the function returned, and the pages that the system had to hand out in the rounds."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS, "ask" if ask else "do not"]
    done = subprocess.run(command, env=plain | variables, capture_output=True, text=True, check=True)
    told, count = done.stdout.split()
    return told, int(count)


def test_freed_memory_is_used_again():
    told, kept = faults(ask=True)
    assert told == "True"
    assert kept < 0.01 * PAGES
    assert faults(ask=False)[1] >= PAGES


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_whoever_has_set_the_allocator_is_left_alone(name):
    value = "1" if name == "MALLOC_ARENA_MAX" else "glibc.malloc.arena_max=1"
    told, count = faults(ask=True, **{name: value})
    assert told == "False"
    assert count >= PAGES


@pytest.mark.parametrize("program", [cli.CLI, evaluation_cli.main, benchmarks.main])
def test_programs_ask_for_it_before_they_do_anything(program, monkeypatch, capsys):
    asked = []
    module = sys.modules[program.__module__]
    monkeypatch.setattr(sys, "argv", ["program"])  # Lightning wonders otherwise
    monkeypatch.setattr(module, "keep_freed_memory", lambda: asked.append(module))
    with pytest.raises(SystemExit):
        program(["--help"])
    assert asked == [module]
