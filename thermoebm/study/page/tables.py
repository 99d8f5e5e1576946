"""The tables of a study's page: turns CSV files into HTML, with every string from them escaped.

Values are read as text and shown unchanged, except in columns of numbers: a commit such as ``12e4567`` is no number,
and a version such as ``3.10`` must keep its zero.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from math import isfinite, isnan
from pathlib import Path

import pandas as pd

from thermoebm.runs.logged import VARIANCES, distance, renamed
from thermoebm.study.planning.columns import WORDS

#: The CSS class of a run's state or a verdict: good, bad or (all others) open.
MARKS = {"holds": "good", "done": "good", "does not hold": "bad", "failed": "bad"}

_EFFECT = "Effect, 95 % interval"

_LABELS = {
    "batch_size": "batch size",
    "num_temperatures": "N_t",
    "posterior_steps": "K",
    "prior_steps": "K of the prior",
    "eta": "η",
    "peak_memory": "peak memory",
    "flops": "FLOPs",
    "val/loss": "validation loss",
    **{column: f"variance {name}" for name, column in VARIANCES.items()},
}


@dataclass(frozen=True)
class Cell:
    """A table cell: its HTML, the number it is sorted by (as text; empty: by the text shown), and its CSS classes."""

    html: str
    value: str = ""
    classes: str = ""

    def tag(self, name: str, attributes: str = "") -> str:
        sorted_by = f' data-value="{escape(self.value)}"' if self.value else ""
        classes = f' class="{self.classes}"' if self.classes else ""
        return f"<{name}{classes}{sorted_by}{attributes}>{self.html}</{name}>"


def read(path: Path, needed: set[str]) -> pd.DataFrame | None:
    """A table as text, missing values empty, columns by present names; None: no file, or it lacks a needed column."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):  # no file; empty, truncated or not text (pandas' errors are ValueErrors)
        return None
    return table.rename(columns=renamed(table.columns)) if needed <= {*table} else None


def distances(table: pd.DataFrame) -> dict[str, str]:
    """The columns of a table that are extrapolated distances to real images, and their labels."""
    return {
        column: f"{name} distance ({split})"
        for kind, name in (("kernel", "kernel"), ("frechet", "Fréchet"))
        for split in ("train", "test")
        if (column := distance(table.columns, kind, split))
    }


def numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column's finite numbers."""
    if column not in table:
        return pd.Series(dtype=float)
    values = pd.to_numeric(table[column], errors="coerce")
    return values[values.map(isfinite)]


def number(text: str) -> str:
    """A number to four digits, whole numbers below 1e9 in full, nan empty; other text unchanged."""
    try:
        value = float(text)
    except ValueError:
        return text
    if isnan(value):
        return ""
    return f"{value:.0f}" if value == round(value, 0) and abs(value) < 1e9 else f"{value:.4g}"


def numeric(text: str) -> Cell:
    """A cell with a number, which is shown rounded and sorted by all its digits."""
    shown = number(text.strip())
    if not shown:
        return Cell("–", classes="number empty")
    return Cell(escape(shown), text.strip() if text.strip() != shown else "", "number")


def words(text: str, classes: str = "") -> Cell:
    """A cell with text."""
    return Cell(escape(text), classes=classes) if text.strip() else Cell("–", classes=f"{classes} empty".strip())


def mark(text: str) -> str:
    """HTML of a state or verdict, in the colour of its CSS class."""
    return f'<span class="mark {MARKS.get(text, "open")}">{escape(text)}</span>' if text else ""


def label(column: str, names: dict[str, str]) -> str:
    """A column's label as HTML, with places where the line may break."""
    return escape(names.get(column) or _LABELS.get(column, column)).replace("/", "/<wbr>")


def _controls(columns: str, what: str) -> str:
    return (
        '<div class="controls needs-script" hidden>'
        f'<label>Filter <input type="search" placeholder="words" aria-label="Filter {what}"></label>'
        f'<output aria-live="polite"></output>{columns}</div>'
    )


def _scroll(table: str, name: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{table}</div>'


def runs(final: pd.DataFrame, known: Iterable[str]) -> str:
    """HTML of the table of runs, with all columns of ``final``; only the most important are shown at first.

    Args:
        final: The table final.csv, as read by :func:`read`.
        known: The hashes of the runs whose config is on the page.
    """
    names = distances(final)
    settings = ["cell", "run", "seed", "status", "dataset", "batch_size", "power"]
    if "dataset" in final and final["dataset"].nunique() == 1:
        settings.remove("dataset")
    tested = [column for column in names if "/test/" in column]  # both splits would not fit on a laptop's screen
    shown = [*settings, "epochs", "seconds", "flops", *VARIANCES.values(), *(tested or names)]
    shown = [column for column in shown if column in final]
    columns = [*shown, *(column for column in final if column not in shown)]
    final = final[columns]
    hashes, hidden = set(known), [column not in shown for column in columns]

    def cell(column: str, text: str) -> Cell:
        if column == "status":
            return Cell(mark(text)) if text else words(text)
        if column == "run" and text in hashes:
            return Cell(f'<a href="#run-{escape(text)}">{escape(text)}</a>', classes="code")
        return words(text, "long" if len(text) > 40 else "") if column in WORDS else numeric(text)

    head, boxes = [], []
    for index, (column, away) in enumerate(zip(columns, hidden, strict=True)):
        kind = "" if column in WORDS else ' class="number"'
        title = f' title="{escape(column)}"' if column in {*_LABELS, *names} else ""
        head.append(f'<th scope="col"{kind}{title}{" hidden" if away else ""}>{label(column, names)}</th>')
        name, checked = label(column, names), "" if away else " checked"
        boxes.append(f'<label><input type="checkbox" value="{index}"{checked}> <span>{name}</span></label>')
    body = []
    for row in final.itertuples(index=False, name=None):
        cells = [
            cell(column, text).tag("td", " hidden" if away else "")
            for column, text, away in zip(columns, row, hidden, strict=True)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    chooser = f'<details class="columns"><summary>Columns</summary><div>{"".join(boxes)}</div></details>'
    table = f"<table><thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="tabular runs">{_controls(chooser, "runs")}{_scroll(table, "Table of runs")}</div>'


def _claim(row: dict[str, str]) -> list[tuple[str, Cell]]:
    """The cells of a claim's row, each with the name of its column."""
    shown = {name: number(row.get(name, "")) for name in ("effect", "low", "high", "statistic")}
    interval = f"[{shown['low']}, {shown['high']}]" if shown["low"] and shown["high"] else "no interval"
    effect = escape(shown["effect"] or "–")
    effect += f' <span class="interval">{escape(interval)}</span><small>{escape(row.get("effect_name", ""))}</small>'
    test = escape(row.get("test", "")) + (f"<small>{escape(shown['statistic'])}</small>" if shown["statistic"] else "")
    where = escape(row.get("dataset", ""))
    where += "".join(f"<small>{escape(row[name])}</small>" for name in ("regime", "variance") if row.get(name))
    statement = "".join(f"<small>{escape(row[name])}</small>" for name in ("note", "claim") if row.get(name))
    return [
        ("Claim", Cell(escape(row.get("statement", "")) + statement, classes="statement wide")),
        ("Verdict", Cell(mark(row.get("verdict", "")) or "–")),
        ("Data", Cell(where or "–", classes="" if where else "empty")),
        (_EFFECT, Cell(effect, row.get("effect", ""), "wide" if shown["effect"] else "wide empty")),
        ("Test", Cell(test or "–", classes="" if test else "empty")),
        ("p", numeric(row.get("p", ""))),
        ("p (Holm)", numeric(row.get("p_holm", ""))),
        ("Runs", numeric(row.get("n", ""))),
        ("Repetitions needed", numeric(row.get("repetitions_needed", ""))),
    ]


def claims(table: pd.DataFrame) -> str:
    """HTML of the table of claims; on a narrow screen its rows become cards."""
    rows = [_claim(row) for row in table.to_dict("records")]
    kinds = dict.fromkeys(("p", "p (Holm)", "Runs", "Repetitions needed"), "number") | {_EFFECT: "number effect"}
    head = "".join(f'<th scope="col" class="{kinds.get(name, "")}">{name}</th>' for name, _ in rows[0])
    body = []
    for row in rows:
        cells = [cell.tag("td", f' data-label="{name}"') for name, cell in row]
        body.append(f"<tr>{''.join(cells)}</tr>")
    html = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="tabular claims">{_controls("", "claims")}{_scroll(html, "Table of claims")}</div>'
