"""The short form of python -m tests.endurance."""

import sys

import pytest

from tests import endurance
from tests.endurance import __main__ as program


def test_all_that_is_tried_holds(tmp_path):
    tried = list(endurance.trials(endurance.HARMS, tmp_path, short=True))
    print(endurance.table(tried))
    assert all(held for _, held in tried)
    assert len({what for what, _ in tried}) >= len(endurance.HARMS)


@pytest.mark.parametrize("held", [True, False])
def test_the_program_counts_by_kind_and_ends_with_1_if_one_did_not_hold(monkeypatch, capsys, held):
    tried = [("power cut", True), ("fire", True), ("power cut", held)]
    monkeypatch.setattr(endurance, "trials", lambda *_: iter(tried))
    monkeypatch.setattr(sys, "argv", ["endurance"])
    monkeypatch.setenv("THERMOEBM_CACHE", "")  # which the program sets: put back afterwards
    assert program.main() == (0 if held else 1)
    rows = [line.rsplit(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert rows == [["what", "tries", "held"], ["power cut", "2", "2" if held else "1"], ["fire", "1", "1"]]
