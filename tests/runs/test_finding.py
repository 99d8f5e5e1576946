"""The checkpoints of runs are found in their folders, the last and the best."""

import pytest

from thermoebm.runs.finding import find_checkpoint, find_checkpoints, without_best


@pytest.fixture
def runs(tmp_path):
    """Two runs, of which one has a best.ckpt, and one checkpoint that is on its way to its name."""
    for name in ("digits/0/checkpoints/last", "digits/0/checkpoints/best", "digits/1/checkpoints/last"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.ckpt").write_text("")
    (tmp_path / "digits" / "1" / "checkpoints" / "best.ckpt.new").write_text("")
    return tmp_path / "digits"


def test_each_is_found_below_its_folder(runs):
    last = [runs / str(number) / "checkpoints" / "last.ckpt" for number in range(2)]
    best = last[0].with_name("best.ckpt")
    assert find_checkpoints([runs]) == last
    assert find_checkpoints([str(runs)], "best") == [best]
    assert find_checkpoints([last[1], runs], "best") == [last[1], best]  # a file is taken as it is
    assert without_best([runs, runs / "1", last[1]]) == [last[1]]


def test_one_run_has_one(runs):
    last = runs / "0" / "checkpoints" / "last.ckpt"
    assert find_checkpoint(runs / "0") == find_checkpoint(str(last), "best") == last
    assert find_checkpoint(runs / "0", "best") == find_checkpoint(runs, "best") == last.with_name("best.ckpt")
    assert find_checkpoint(runs / "absent.ckpt") == runs / "absent.ckpt"  # told by whoever reads it
    with pytest.raises(ValueError, match=rf"{runs} has 2 last.ckpt, for instance {last}; name one of them\."):
        find_checkpoint(runs)


@pytest.mark.parametrize("find", [find_checkpoint, lambda path, which: find_checkpoints([path], which)])
def test_a_folder_without_one_is_told_in_a_sentence(runs, find):
    said = f"There is no best.ckpt in the folder {runs}/1; a run keeps one if its best.monitor was logged, and --which"
    with pytest.raises(ValueError, match=f"^{said} last takes the last epoch.$"):
        find(runs / "1", "best")
