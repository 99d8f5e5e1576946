"""The short form of python -m tests.endurance."""

import sys

import pytest

from tests import endurance
from tests.endurance import __main__ as program


@pytest.mark.parametrize(
    "harm", [pytest.param(h, marks=[pytest.mark.slow] * (h in ("disks", "ranks"))) for h in endurance.HARMS]
)
def test_all_that_is_tried_holds(tmp_path, harm):
    tried = list(endurance.trials([harm], tmp_path, short=True))
    print(endurance.table(tried))
    if not tried:
        pytest.skip("this user may make no mount namespace")
    assert all(held for _, held in tried)


@pytest.mark.parametrize("held", [True, False])
def test_the_program_counts_by_kind_and_ends_with_1_if_one_did_not_hold(monkeypatch, capsys, held):
    tried = [("power cut", True), ("fire", True), ("power cut", held)]
    monkeypatch.setattr(endurance, "trials", lambda *_: iter(tried))
    monkeypatch.setattr(sys, "argv", ["endurance"])
    monkeypatch.setenv("THERMOEBM_CACHE", "")  # which the program sets: put back afterwards
    assert program.main() == (0 if held else 1)
    rows = [line.rsplit(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert rows == [["what", "tries", "held"], ["power cut", "2", "2" if held else "1"], ["fire", "1", "1"]]
