"""The page of a study says what the study's files say, and nothing in them is taken for code."""

import base64
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.study.folder import ACROSS, HOSTILE, KERNEL, claims
from tests.study.page.html_tree import by_id, text, tree
from thermoebm.study import page


def rows(table):
    """Rows of a table's body, each a dict from the column's name to its cell."""
    names = [header.get("title") or text(header) for header in table.iter("th")]
    return [dict(zip(names, row, strict=True)) for row in table.find("tbody")]


def test_hostile_names_are_text_everywhere(made):
    """Title, failure's reason, claim, cell in three places, device: read as text, and no script but the page's own."""
    _, _, root = made
    assert [script.get("type") for script in root.iter("script")] == ["application/json", None]
    assert text(by_id(root, "title")) == f"digits {HOSTILE}"
    for name in ("summary", "claims", "samples", "runs", "configs"):
        assert HOSTILE in text(by_id(root, name)), name
    assert "CPU <b>x</b>" in text(by_id(root, "summary"))
    assert not list(root.iter("b"))


def test_an_attribute_cannot_be_left(study):
    """A quote in a name stays in the name."""
    for path in (study / "runs").glob("*/run.json"):
        path.write_text(path.read_text().replace('"cell": "p 10"', '"cell": "\\" onerror=\\"x"'))
    final = pd.read_csv(study / "final.csv", dtype=str)
    final.replace({"p 10": '" onerror="x'}).to_csv(study / "final.csv", index=False)
    root = tree(page.write(study).read_text())
    assert '" onerror="x' in text(by_id(root, "runs"))
    assert not [element for element in root.iter() if any(name.startswith("on") for name in element.attrib)]


def test_policy_allows_this_style_and_this_script_alone(made):
    """The hashes are those of the text between the tags, as a browser computes them."""
    _, _, root = made
    (policy,) = (meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv"))
    rules = dict(rule.split(None, 1) for rule in policy.split("; "))
    for rule, element in (("style-src", root.find("head/style")), ("script-src", root.find("body/script"))):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"


def test_nothing_is_outside_the_file(made):
    _, _, root = made
    links = [value for element in root.iter() for name in ("src", "href") if (value := element.get(name))]
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    style = root.find("head/style").text
    assert "url(" not in style
    assert "@import" not in style
    names = {element.get("id") for element in root.iter()}
    assert {link[1:] for link in links if link.startswith("#")} <= names


def test_runs_have_every_value_of_the_table(made):
    """Shown to four digits, sorted by all; a column that is not shown at first is there too; text stays as it is."""
    _, final, root = made
    table = by_id(root, "runs").find(".//table")
    shown = rows(table)
    assert len(shown) == len(final)
    assert set(shown[0]) == set(final)
    for row, (_, truth) in zip(shown, final.iterrows(), strict=True):
        cell = row[ACROSS]
        if np.isnan(truth[ACROSS]):
            assert text(cell) == "–"
            assert "empty" in cell.get("class")
        else:
            assert float(cell.get("data-value")) == pytest.approx(truth[ACROSS], rel=1e-12)
            assert float(text(cell)) == pytest.approx(truth[ACROSS], rel=5e-4)
        assert (text(row["commit"]), text(row["python"])) == ("12e4567", "3.10")
        assert text(row["status"]) == truth["status"]
        assert text(row["run"]) == truth["run"]
        assert text(row["updates"]) == "570"
        assert row["updates"].get("hidden") == ""
        assert row["power"].get("hidden") is None
        links = [link.get("href") for link in row["run"].iter("a")]
        assert links == ([] if truth["status"] == "missing" else [f"#run-{truth['run']}"])


def test_columns_can_be_chosen(made):
    """A box for each column, at its place, ticked if it is shown."""
    block = by_id(made[2], "runs")
    headers = list(block.iter("th"))
    boxes = [box for box in block.iter("label") if box.find("input[@type='checkbox']") is not None]
    assert len(boxes) == len(headers) > 60
    for index, (header, label) in enumerate(zip(headers, boxes, strict=True)):
        box = label.find("input")
        assert (box.get("value"), text(label)) == (str(index), text(header))
        assert (box.get("checked") is None) == (header.get("hidden") is not None)
    shown = [header.get("title") or text(header) for header in headers if header.get("hidden") is None]
    assert shown[:6] == ["cell", "run", "seed", "status", "batch_size", "power"]  # one data set: no column of it
    assert {ACROSS, KERNEL} <= set(shown)


def test_several_data_sets_have_their_column(study):
    final = pd.read_csv(study / "final.csv", dtype=str)
    final.loc[0, "dataset"] = "MNIST"
    final.to_csv(study / "final.csv", index=False)
    headers = by_id(tree(page.write(study).read_text()), "runs").iter("th")
    assert "dataset" in [text(header) for header in headers if header.get("hidden") is None]


def test_summary_counts(made):
    _, final, root = made
    facts = {text(tile.find("dt")): text(tile.find("dd")) for tile in by_id(root, "summary").find("dl")}
    started = len(final) - 1
    assert facts["Runs"] == f"{started - 1} of {started + 1} done"
    assert facts["Cells"].startswith("9")
    assert facts["Time, all runs added"] == f"{started - 1} h 0 min"  # an hour for each that is done
    assert facts["FLOPs of training"] == f"{1.5 * started:.1f} TFLOP"
    assert facts["Peak memory of a run"] == "400 MB"
    assert facts["Finished"] == "2026-11-21 10:00 UTC" + "first 2026-11-20 10:00 UTC"
    assert facts["Versions"] == "python 3.10, torch 2.13.0, lightning 2.6.6, thermoebm 0.1.0"
    assert facts["Commit"] == "12e4567"
    summary = text(by_id(root, "summary"))
    assert "Maximum likelihood and thermodynamic integration & more.done" in summary
    assert f"done {started - 1} failed 1 missing 1" in summary
    assert f"{HOSTILE}, seed 1: The loss is not finite {HOSTILE}." in summary


def test_claims_table(made):
    """Verdict in word and colour, effect with interval, both p-values, at their own columns."""
    shown = rows(by_id(made[2], "claims").find(".//table"))
    for row, (_, truth) in zip(shown, claims().iterrows(), strict=True):
        assert text(row["Claim"]).startswith(truth["statement"])
        assert text(row["Verdict"]) == truth["verdict"]
        colour = {"holds": "good", "does not hold": "bad", "undecided": "open"}[truth["verdict"]]
        assert row["Verdict"].find("span").get("class") == f"mark {colour}"
        assert float(text(row["p"])) == truth["p"]
        assert float(text(row["p (Holm)"])) == truth["p_holm"]
        effect = row["Effect, 95 % interval"]
        assert float(effect.get("data-value")) == truth["effect"]
        assert text(effect.find("span")) == f"[{truth['low']:.4g}, {truth['high']:.4g}]"
        assert text(effect).endswith("Spearman's ρ")
        assert all(cell.get("data-label") == name for name, cell in row.items())
    assert "does not hold 1 holds 1 undecided 1" in text(by_id(made[2], "claims"))


def test_a_config_that_differs_in_more_than_the_seed_is_shown(study):
    path = study / "runs" / "01e4567" / "run.json"
    about = json.loads(path.read_text())
    about["config"]["data"]["batch_size"] = 7
    path.write_text(json.dumps(about))
    fold = by_id(tree(page.write(study).read_text()), "run-01e4567")
    (config,) = (element for element in fold.iter("pre") if element.get("aria-label") == "Config")
    assert yaml.safe_load(config.text) == about["config"]
    assert "but for the seed" not in text(fold)


def test_config_and_environment_of_each_run(made):
    """The YAML on the page is the config of run.json, once for runs that differ in the seed only; links lead there."""
    folder, final, root = made
    for name in final["run"][:-1]:
        about = json.loads((folder / "runs" / name / "run.json").read_text())
        fold = by_id(root, f"run-{name}")
        shown = [yaml.safe_load(pre.text) for pre in fold.iter("pre") if pre.get("aria-label") == "Config"]
        assert shown == ([about["config"]] if about["seed"] == 0 else [])
        assert ("Its config is that of seed 0, but for the seed." in text(fold)) == (about["seed"] > 0)
        facts = dict(zip(map(text, fold.iter("dt")), map(text, fold.iter("dd")), strict=True))
        assert (facts["Commit"], facts["Device"]) == ("12e4567", "CPU <b>x</b>")
        assert f"python train.py fit --name {about['cell']}" in text(fold)
