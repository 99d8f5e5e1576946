"""What version 0.1.0 called evidence is read as what it was: the measure of short chains."""

import pytest

from thermoebm.runs.logged import now, renamed

OLD = {
    "val/evidence": "val/short_run_evidence",
    "val/nll": "val/short_run_nll",
    "test/evidence": "test/short_run_evidence",
    "test/evidence_se": "test/short_run_evidence_se",
    "test/bits_per_dimension": "test/short_run_bits_per_dimension",
}
SAME = ("step", "epoch", "train/nll", "nll", "mine/evidence", "val/loss", "val/left_sum", "test/evidence_images")


def test_old_names_have_new_ones_and_others_stay():
    """``train/nll`` is the objective's own estimate; what no version of ours has logged is left alone."""
    assert renamed([*SAME, *OLD]) == OLD
    assert {name: now(name) for name in SAME} == dict(zip(SAME, SAME, strict=True))
    assert renamed([]) == {}


@pytest.mark.parametrize(
    "new", ["test/short_run_evidence", "val/short_run_nll", "test/evidence_method", "val/evidence_mc_se"]
)
def test_a_newer_table_keeps_its_evidence(new):
    """There it is no short-run measure. One name tells a newer table, wherever it stands."""
    assert renamed([*OLD, new]) == renamed([new, *OLD]) == {}


def test_what_has_a_new_name_is_not_renamed_again():
    assert renamed(OLD.values()) == {}
    assert {now(name) for name in OLD.values()} == set(OLD.values())
