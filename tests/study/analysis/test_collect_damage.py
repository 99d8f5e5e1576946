"""Tables of studies in any state: unfinished, with missing epochs, damaged; all is told, nothing is touched."""

import json
from pathlib import Path

import pytest

from tests.study.runs import CONFIG, contents, evaluated, make, metrics
from thermoebm.study.analysis.collect import collect, gather, read_tables
from thermoebm.study.planning.columns import IDENTITY


def test_every_state_is_collected_and_told_in_a_sentence_and_nothing_is_touched(tmp_path, capsys):
    make(tmp_path, "good")
    make(tmp_path, "going", metrics(2), done=False)
    failed = make(tmp_path, "lost", metrics(1), done=False)
    (failed / "FAILED").write_text(json.dumps({"attempts": 3, "reason": "The energy ran away."}))
    planned = make(tmp_path, "planned", done=False)
    for path in (planned / "0" / "metrics.csv", planned / "0" / "checkpoints" / "last.ckpt"):
        path.unlink()
    (planned / "0" / "checkpoints").rmdir()
    (planned / "0").rmdir()
    before = contents(tmp_path)
    results, final = collect(tmp_path)
    assert contents(tmp_path) == before
    assert final.set_index("run")["status"].to_dict() == {
        **{"good": "done", "going": "running"},
        **{"lost": "failed", "planned": "missing"},
    }
    assert final.set_index("run")["epochs"].to_dict() == {"good": 3, "going": 2, "lost": 1, "planned": 0}
    assert final.set_index("run")["attempts"].to_dict()["lost"] == 3
    assert results.groupby("run").size().to_dict() == {"good": 3, "going": 2, "lost": 1}
    assert capsys.readouterr().out.splitlines() == [
        "Run going (p 3, seed 1) is not finished: 2 of 3 epochs.",
        "Run lost (p 3, seed 1) has failed after 1 epochs: The energy ran away.",
        "Run planned (p 3, seed 1) has not begun.",
    ]


def test_an_epoch_that_is_not_over_is_not_a_row(tmp_path):
    """A run that goes on: steps of its third epoch are there, its cost is not."""
    table = metrics(3)
    make(tmp_path, "aa", table[table["cost/flops"].isna() | (table["epoch"] < 2)], done=False)
    results, _, told = gather(tmp_path)
    assert results["epoch"].tolist() == [1, 2]
    assert told == ["Run aa (p 3, seed 1) is not finished: 2 of 3 epochs."]


@pytest.mark.parametrize(
    ("lost", "named", "kept"),
    [
        (lambda t: t[t["epoch"] != 1], "epoch(s) 2 of 6 are missing", [1, 3, 4, 5, 6]),
        (lambda t: t[~t["epoch"].isin([1, 2, 4])], "epoch(s) 2 to 3, 5 of 6 are missing", [1, 4, 6]),
        (lambda t: t[t["epoch"] < 4], "epoch(s) 5 to 6 of 6 are missing", [1, 2, 3, 4]),
        (lambda t: t.iloc[:0], "epoch(s) 1 to 6 of 6 are missing", []),
    ],
)
def test_missing_epochs_are_named_and_the_others_collected(tmp_path, lost, named, kept):
    config = CONFIG | {"trainer": {"max_epochs": 6}}
    make(tmp_path, "aa", lost(metrics(6)), config=config)
    results, final, (sentence,) = gather(tmp_path)
    assert named in sentence
    assert str(tmp_path / "runs" / "aa" / "0" / "metrics.csv") in sentence
    assert results["epoch"].tolist() == kept
    assert final["status"].tolist() == ["done"]


def damage_metrics(folder):
    (folder / "0" / "metrics.csv").write_bytes(b"")


def damage_a_cell(folder):
    path = folder / "0" / "metrics.csv"
    path.write_text(path.read_text().replace("4.0", "4.x", 1))


def damage_columns(folder):
    (folder / "0" / "metrics.csv").write_text("a,b\n1,2\n")


def damage_run(folder):
    (folder / "run.json").write_text('{"study": "s", ')


def damage_run_kind(folder):
    (folder / "run.json").write_text("[1]")


def lose_run(folder):
    (folder / "run.json").unlink()


def damage_test(folder):
    evaluated(folder)
    (folder / "test" / "metrics.json").write_text("{")


def empty_test(folder):
    (folder / "test").mkdir()
    (folder / "test" / "metrics.json").write_text('{"results": []}')


def damage_done(folder):
    (folder / "DONE").write_text("")


@pytest.mark.parametrize(
    ("damage", "said", "rows"),
    [
        (damage_metrics, "metrics.csv cannot be read (No columns to parse from file)", None),
        (damage_a_cell, "metrics.csv is damaged (val/loss): what is no number there is left empty", 3),
        (damage_columns, "metrics.csv cannot be read", None),
        (damage_run, "run.json is damaged", 0),
        (damage_run_kind, "run.json is damaged", 0),
        (lose_run, "has no run.json: it is no run, and left out", 0),
        (damage_test, "metrics.json is damaged", 3),
        (empty_test, "has not one row of results: the run has no test metrics; evaluate it again", 3),
        (damage_done, "DONE is damaged", 3),
    ],
)
def test_damage_is_told_in_a_sentence_and_the_others_are_collected(tmp_path, damage, said, rows):
    make(tmp_path, "good")
    damage(folder := make(tmp_path, "hurt"))
    before = contents(tmp_path)
    results, final, told = gather(tmp_path)
    assert contents(tmp_path) == before
    assert len(results[results["run"] == "good"]) == 3
    assert sum(said in sentence and str(folder) in sentence for sentence in told) == 1
    assert all("\n" not in sentence for sentence in told)
    assert len(results[results["run"] == "hurt"]) == (rows or 0)
    assert len(final) == (1 if rows == 0 else 2)


def test_the_folder_of_a_run_is_the_last_that_has_a_checkpoint(tmp_path):
    folder = make(tmp_path, "aa")
    for name in ("2", "10", "11", "old"):
        (folder / name / "checkpoints").mkdir(parents=True)
        metrics(3, cost=float(len(name)) * 1000).to_csv(folder / name / "metrics.csv", index=False)
    for name in ("2", "10", "old"):
        (folder / name / "checkpoints" / "last.ckpt").write_bytes(b"")
    _, final = collect(tmp_path)
    assert final[["folder", "flops"]].iloc[0].tolist() == ["runs/aa/10", 6000]


def test_tables_are_replaced_in_one_piece_or_not_at_all(tmp_path, monkeypatch):
    """A disk that is full while the second table is written: the old one stays, and a sentence says what to do."""
    make(tmp_path, "aa")
    collect(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("results.csv", "final.csv")}
    make(tmp_path, "bb")
    real = Path.replace

    def full(temporary, path):
        if "final" in str(path):
            raise OSError(28, "No space left on device")
        return real(temporary, path)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(
        ValueError, match=r"final.csv cannot be written \(No space left on device\); the runs are unharmed"
    ):
        collect(tmp_path)
    assert (tmp_path / "final.csv").read_bytes() == before["final.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["final.csv", "results.csv", "runs"]
    monkeypatch.undo()
    collect(tmp_path)
    assert len(read_tables(tmp_path)[1]) == 2


def test_a_folder_without_runs_or_tables_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"There are no runs in .*; start them with: python -m thermoebm.study run"):
        collect(tmp_path)
    with pytest.raises(ValueError, match=r"There is no .*results.csv; make it with: python -m thermoebm.study collect"):
        read_tables(tmp_path)
    (tmp_path / "results.csv").write_text("")
    with pytest.raises(ValueError, match=r"results.csv cannot be read .*; collect again"):
        read_tables(tmp_path)


def test_only_planned_runs_make_tables_without_epochs(tmp_path):
    folder = make(tmp_path, "aa", done=False)
    (folder / "0").rename(tmp_path / "elsewhere")
    results, final = collect(tmp_path)
    assert (len(results), final["status"].tolist()) == (0, ["missing"])
    assert set(IDENTITY) < set(results.columns)


# Comparisons at equal budgets
