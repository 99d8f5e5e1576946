"""The report's claims as statistical checks on a table of runs, one row for each claim, data set and variance.

The verdict follows the same rule for each claim:

    holds            the effect has the claimed direction, and p < .05 after Holm's correction
    does not hold    the effect has the other direction with such a p, or the 95 % interval excludes every relevant
                     effect in the claimed direction (:class:`Relevant`); the interval is not corrected for the number
                     of rows, and the note says where it decides
    undecided        otherwise; also where a claim cannot be tested, and the note says why

Holm's correction is over all rows of a data set, those of several variances included, so that a data set without any
effect gets any ``holds`` with probability of at most .05, **if its runs are independent**. Runs of a cell that share a
process or an order of the images are not: differences between processes then look like effects of cells, and the
probability has no limit. Where something known of the runs takes a significant result back, its p-value decides nothing
(:func:`_doubt`). ``repetitions_needed`` is the number of repetitions of each cell that detect the relevant effect with
probability .8 at p < .05, uncorrected.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from thermoebm.runs.logged import VARIANCES, distance
from thermoebm.study.analysis import checks, selection, statistics
from thermoebm.study.analysis.checks import LARGE_POWERS, SMALL_POWERS, VANILLA, Outcome, Relevant, Test, Untestable
from thermoebm.study.analysis.published import STUDY, TAKEN_BACK
from thermoebm.study.analysis.selection import Select
from thermoebm.study.analysis.statistics import Result
from thermoebm.study.planning.columns import IDENTITY, REGIMES

COLUMNS = [
    *("claim", "statement", "dataset", "regime", "variance", "effect", "effect_name", "low", "high", "test"),
    *("statistic", "p", "p_holm", "n", "verdict", "repetitions_needed", "note"),
]


@dataclass(frozen=True)
class Claim:
    """A claim: its statement, the regime it is about, the quantity that is measured, the choice of runs, its test."""

    name: str
    statement: str
    regime: str
    of: str  # variance: a row for each definition; distance: one row; both: a row for each variance, with the distance
    select: Select
    test: Test


_SYMBOLS = {"num_temperatures": "N_t", "posterior_steps": "K", "eta": "η"}
_VARIANCE, _BETTER = "a smaller gradient variance", "better samples"

#: In the order of the report's text.
CLAIMS = (
    Claim(
        *("batch-variance", "A smaller batch gives a larger gradient variance.", VANILLA, "variance"),
        selection.regime_runs(VANILLA),
        checks.trend("batch_size", -1),
    ),
    Claim(
        *("batch-distance", "A smaller batch gives better samples.", VANILLA, "distance"),
        selection.regime_runs(VANILLA),
        checks.trend("batch_size", 1),
    ),
    Claim(
        *("power-variance", "A larger p > 1 gives a larger gradient variance.", LARGE_POWERS, "variance"),
        selection.regime_runs(LARGE_POWERS),
        checks.trend("power", 1),
    ),
    Claim(
        *("power-best", "Samples are best near p = 6.", LARGE_POWERS, "distance"),
        selection.powers,
        checks.best_at(checks.BEST_POWER),
    ),
    Claim(
        *("small-power-variance", "A smaller p ≤ 1 gives a larger gradient variance.", SMALL_POWERS, "variance"),
        selection.regime_runs(SMALL_POWERS),
        checks.trend("power", -1),
    ),
    Claim(
        *("small-power-distance", "A smaller p ≤ 1 gives worse samples.", SMALL_POWERS, "distance"),
        selection.regime_runs(SMALL_POWERS),
        checks.trend("power", -1),
    ),
    *(
        Claim(
            *("quadratic", "The distance is quadratic in the gradient variance, with a minimum.", name, "both"),
            selection.regime_runs(name),
            checks.valley(name),
        )
        for name in REGIMES
    ),
    *(
        Claim(
            f"{setting}-{of}",
            f"A larger {symbol} gives {what}.",
            "",
            of,
            selection.varied_runs(setting),
            checks.trend(setting, -1),
        )
        for setting, symbol in _SYMBOLS.items()
        for of, what in (("variance", _VARIANCE), ("distance", _BETTER))
    ),
    Claim(
        "spread",
        "Repetitions differ less in gradient variance at a power than at a batch size.",
        *("", "variance", selection.plain, checks.smaller_spread),
    ),
    Claim(
        "vanilla-better",
        "The vanilla model's best samples are better than TI's.",
        "",
        "distance",
        selection.plain,
        checks.vanilla_is_better,
    ),
)


def check(final: pd.DataFrame, relevant: Relevant | None = None, split: str = "test") -> pd.DataFrame:
    """Tests every claim of :data:`CLAIMS` on the finished runs of a table, one data set at a time.

    Args:
        final: A table as from :func:`thermoebm.study.analysis.collect.collect` or
            :func:`thermoebm.study.analysis.published.published`.
        relevant: The smallest effects that would matter; None: those of :class:`Relevant`.
        split: The split of real images that samples are compared with; if a data set has no distance to it, the other.

    Returns:
        A table with the columns :data:`COLUMNS`; see the module.
    """
    done = final[final["status"] == "done"] if "status" in final else final
    rows: list[dict[str, object]] = []
    for name, runs in done.groupby("dataset", sort=False):
        columns = list(dict.fromkeys([*IDENTITY, *final.columns]))
        runs = runs.dropna(axis=1, how="all").reindex(columns=columns).copy()  # copied into one block: tables are wide
        measured = [row for claim in CLAIMS for row in _rows(claim, str(name), runs, relevant or Relevant(), split)]
        for row, p in zip(measured, statistics.holm([row["p"] for row in measured]), strict=True):
            row["p_holm"] = p
            _judge(row, p)
        rows += measured
    return pd.DataFrame(rows, columns=COLUMNS)


def _judge(row: dict[str, Any], p: float) -> None:
    """Sets a row's verdict, and notes where the interval alone or a doubt has decided."""
    favours, irrelevant, doubt = row.pop("favours"), row.pop("irrelevant"), row.pop("doubt")
    significant = p < statistics.ALPHA
    if doubt:
        row["note"] += f"; {doubt}" + ("; so p decides nothing" if significant else "")
        significant = False
    if significant and favours > 0:
        row["verdict"] = "holds"
    elif significant and favours < 0:
        row["verdict"] = "does not hold"
    elif irrelevant:
        row["verdict"] = "does not hold"
        row["note"] += "; does not hold by its interval, which is not corrected for the number of rows"
    else:
        row["verdict"] = "undecided"


def _rows(claim: Claim, dataset: str, runs: pd.DataFrame, relevant: Relevant, split: str) -> list[dict[str, Any]]:
    present = runs.dropna(axis=1, how="all")
    variances = {name: column for name, column in VARIANCES.items() if column in present} or {"": ""}
    kernel = next(filter(None, (distance(present.columns, "kernel", s) for s in (split, "test", "train"))), "")
    rows = []
    for variance, column in variances.items() if claim.of != "distance" else [("", "")]:
        # The variance is the column x, which a claim about both compares the distance with.
        table = runs.assign(x=runs[column] if column else np.nan)
        measured = "x" if claim.of == "variance" else kernel
        left_out = ""
        try:
            if claim.of != "distance" and not column:
                raise Untestable("no gradient variance in the table")
            if not measured:
                raise Untestable("no kernel distance in the table")
            names = {"x": "gradient variance"} if claim.of != "distance" else {}
            names |= {kernel: "distance"} if claim.of != "variance" else {}
            chosen, left_out = selection.finite(claim.select(table), names)
            outcome = claim.test(chosen, measured, relevant)
        except ValueError as error:
            outcome = Outcome(Result(*[math.nan] * 5), "", "", 0, 0.0, False, math.nan, f"not tested: {error}")
        note = [told for told in (outcome.note, left_out) if told]
        if outcome.n and STUDY in set(runs["study"]):
            note.append(f"{SHARED}, so that p is too small")
        if claim.of != "variance" and kernel and f"fidelity/{split}/" not in kernel:
            note.append(f"measured by {kernel}")
        rows.append(
            {
                **{"claim": claim.name, "statement": claim.statement, "dataset": dataset, "regime": claim.regime},
                **{"variance": variance, **outcome.result._asdict(), "effect_name": outcome.effect_name},
                **{"test": outcome.test, "n": outcome.n, "favours": outcome.favours, "irrelevant": outcome.irrelevant},
                "doubt": _doubt(claim.name, runs) if outcome.n else "",
                **{"repetitions_needed": float(outcome.repetitions), "note": "; ".join(note)},
            }
        )
    return rows


#: What the note of a study says whose repetitions are not independent.
SHARED = "repetitions of a cell shared one process and order of the images"


def _doubt(claim: str, runs: pd.DataFrame) -> str:
    """Why a significant result is no evidence for a claim or against it; empty if nothing is known against it."""
    if claim.startswith("eta-") and "pathwise" not in set(runs["estimator"]):
        return "η changes no gradient of these estimators, so that no difference can be its effect"
    if STUDY in set(runs["study"]):
        return next((why for name, why in TAKEN_BACK.items() if claim.startswith(f"{name}-")), "")
    return ""


def table(claims: pd.DataFrame) -> str:
    """The claims as text for a terminal: a block for each data set, a line for each row, and the rule at the end."""
    lines = []
    for name, rows in claims.groupby("dataset", sort=False):
        tested = rows["p"].notna()
        cells = [["claim", "of", "effect", "95 % interval", "p", "p (Holm)", "n", "verdict", "repetitions"]]
        cells += [_cells(row) for row in rows[tested].to_dict("records")]
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        lines += ["", str(name)]
        lines += ["  " + "   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        for note, untested in rows[~tested].groupby("note", sort=False):
            lines.append(f"  undecided, {note}: {', '.join(untested['claim'].unique())}")
        if rows["note"].str.contains(SHARED).any():
            lines.append(f"  {SHARED}: the error rate below does not apply.")
    return "\n".join([*lines[1:], "", *_RULE])


_RULE = (
    "holds: claimed direction and p (Holm, over the data set's rows) < .05, falsely in at most 5 % of data sets of",
    "independent runs; does not hold: the other direction, or no relevant effect within the interval (uncorrected);",
    "repetitions: of each cell, to find a relevant effect with probability .8.",
)


def _cells(row: dict[str, Any]) -> list[str]:
    about = " ".join(filter(None, [row["regime"], f"[{row['variance']}]" if row["variance"] else ""]))
    effect, interval = f"{row['effect_name']} {row['effect']:.3g}", f"{row['low']:.3g} to {row['high']:.3g}"
    needed = f"{row['repetitions_needed']:.0f}" if math.isfinite(row["repetitions_needed"]) else ""
    numbers = [effect, interval, f"{row['p']:.2g}", f"{row['p_holm']:.2g}", f"{row['n']}"]
    return [row["claim"], about, *numbers, row["verdict"], needed]
