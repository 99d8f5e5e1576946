"""How a run has ended is one answer, whoever asks: the launcher, ``status``, the tables or the page."""

import pytest

from tests.study.runs import make
from thermoebm.study.analysis.collect import gather
from thermoebm.study.page import run as page_run
from thermoebm.study.running import folder
from thermoebm.study.running.board import state_of

_GARBAGE = ["", "{", "[1]", "null", "12", '"done"', "\x00" * 40, "\udcff", "[" * 100_000]
_GOOD = '{"seconds": 3, "reason": "why"}'


def launched(place):
    """What the launcher makes of the run: it leaves alone what is done, and fails what is damaged."""
    try:
        return folder.state(place)
    except folder.Damaged:
        return folder.FAILED


def answers(study, place):
    """Of launcher, ``status``, tables and page."""
    (row,) = gather(study).final["status"]
    (shown,) = page_run.read(study / "runs")
    return {launched(place), state_of(place)[0], row, shown.status}


@pytest.mark.parametrize("content", _GARBAGE, ids=range(len(_GARBAGE)))
def test_a_done_that_is_garbage_is_a_failure_to_all_and_all_say_why(tmp_path, content):
    place = make(tmp_path, "aa")
    (place / "DONE").write_bytes(content.encode(errors="surrogateescape"))
    assert answers(tmp_path, place) == {"failed"}
    why = f"{place / 'DONE'} is damaged; move {place} away and run the study again."
    (told,) = gather(tmp_path).told
    (shown,) = page_run.read(tmp_path / "runs")
    assert told == f"Run aa (p 3, seed 1) has failed after 3 epochs: {why}"
    assert [shown.failed["reason"], state_of(place)[1]] == [why, why]


@pytest.mark.parametrize(
    ("done", "failed", "answer"),
    [
        (_GOOD, None, "done"),
        ("{}", None, "done"),
        (_GOOD, _GOOD, "done"),
        (_GOOD, "{", "done"),  # nobody looks at it
        (None, _GOOD, "failed"),
        (None, "{", "failed"),
        ("{", _GOOD, "failed"),  # as the launcher leaves a damaged one
        ("folder", None, "failed"),
    ],
)
def test_whatever_of_both_is_there_all_say_the_same(tmp_path, done, failed, answer):
    place = make(tmp_path, "aa", done=False)
    for name, content in (("DONE", done), ("FAILED", failed)):
        if content == "folder":
            (place / name).mkdir()
        elif content is not None:
            (place / name).write_text(content)
    assert answers(tmp_path, place) == {answer}
