"""Numbers of the pages that can be computed again in seconds, from data and programs of the repository."""

import io
import math
import re
import sys
from contextlib import redirect_stdout

import pandas as pd
import pytest

from benchmarks import step_time
from tests.test_reproduce import DOCS, INDEX, tables
from thermoebm.evidence import trapezium_weights
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.schedules import power_law
from thermoebm.study.analysis import claims
from thermoebm.study.analysis.collect import read_table

STUDY = DOCS / "study-digits"


def numbers(cell: str) -> list[tuple[float, float]]:
    """The numbers of a cell, each with half of the unit of its last digit."""
    found = re.findall(r"-?\d*\.?\d+", cell.replace(",", ""))
    return [(float(number), 0.5 * 10.0 ** -len(number.partition(".")[2])) for number in found]


def table(page: str, title: str) -> list[list[str]]:
    (found,) = [table for table in tables(DOCS / page) if table.title == title]
    return found.rows


def test_the_table_of_the_digits_study_is_its_data():
    """Mean and standard deviation over seeds of each cell, to the last digit that the page shows."""
    final = read_table(STUDY / "final.csv")
    per_parameter = "gradient_variance/per_parameter/{}/both"
    measures = pd.DataFrame(
        {
            "cell": final["cell"],
            "updates": final["updates"],
            "GV": final["gradient_variance/across_parameters/both"],
            "normalised": final[per_parameter.format("total")] / final[per_parameter.format("mean_square")],
            "KD": final["fidelity/test/KD[classifier:digits]_inf"],
            "evidence": final["val/short_run_nll"],
        }
    ).groupby("cell")
    mean, spread = measures.mean(), measures.std()
    rows = table("results.md", "cell, updates")
    assert {re.sub(r" \.", " 0.", row[0]) for row in rows} == {*mean.index}
    for name, *cells in rows:
        cell = re.sub(r" \.", " 0.", name)
        for measure, text in zip(mean.columns, cells, strict=True):
            for (shown, half), value in zip(numbers(text), (mean, spread), strict=False):
                assert value[measure][cell] == pytest.approx(shown, abs=1.001 * half), (name, measure)


def written(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it is read again from a file."""
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


def test_the_claims_of_the_digits_study_are_judged_as_published():
    found = claims.check(read_table(STUDY / "final.csv"))
    kept = pd.read_csv(STUDY / "claims.csv")
    same = ["claim", "regime", "variance", "effect", "low", "high", "p", "p_holm", "verdict"]
    pd.testing.assert_frame_equal(written(found)[same], kept[same], rtol=1e-9)
    shown = {row[0]: row[1:] for row in table("results.md", "claim, verdict")}
    for statement, claim in (
        ("a smaller batch gives a larger GV", "batch-variance"),
        ("a smaller batch gives better samples", "batch-distance"),
        ("p > 1: a larger p gives a larger GV", "power-variance"),
        ("samples are best near p = 6", "power-best"),
        ("TI controls GV with a smaller spread than batch size", "spread"),
        ("vanilla samples are better than TI's", "vanilla-better"),
    ):
        row = found[(found["claim"] == claim) & ~found["variance"].str.startswith("per", na=False)].iloc[0]
        verdict, text = shown[statement]
        assert verdict.startswith(row["verdict"]), statement
        if row["verdict"] == "holds":
            (rho, half), (p, close) = numbers(text)[:2]
            assert row["effect"] == pytest.approx(rho, abs=half)
            assert row["p_holm"] == pytest.approx(p, abs=close)


def test_predicted_steps_are_those_of_the_rates(monkeypatch):
    rates = re.search(r"--rates (\S+)", (INDEX.parent / "performance.sh").read_text(encoding="utf-8"))[1]
    monkeypatch.setattr(sys, "argv", ["step_time", "--networks", "", "--rates", rates])
    said = io.StringIO()
    with redirect_stdout(said):
        step_time.main()
    printed = [line for line in said.getvalue().splitlines() if re.match(r"\| (maximum|TI)", line)]
    assert printed == ["| " + " | ".join(row) + " |" for row in table("performance.md", "objective, devices")]


def test_numbers_that_follow_from_formulas():
    """The trapezium's weight on t = 0, the least bits per dimension at σl = .3, and sizes of networks."""
    text = " ".join((DOCS / "results.md").read_text(encoding="utf-8").split())
    shown = re.search(r"The weight is (\S+) at p = \.1, (\S+) at \.3 and (\S+) at 1\.", text)
    for power, weight in zip((0.1, 0.3, 1.0), shown.groups(), strict=True):
        assert float(trapezium_weights(power_law(10, power))[0]) == pytest.approx(float(weight), abs=0.005)
    assert f"= {math.log2(127.5 * 0.3 * math.sqrt(2 * math.pi)):.2f} whatever is learned" in text
    digits = [EnergyMLP(32), ConvGenerator(32, (1, 8, 8), features=8)]
    assert f"networks of {sum(p.numel() for n in digits for p in n.parameters()):,} parameters" in text
    mnist = ConvGenerator(32, (1, 28, 28), features=4)
    assert f"generator of {sum(p.numel() for p in mnist.parameters()):,} parameters" in text
