"""docs/reference/configs.md lists every shipped config once, and nothing else; its runs are as many as a study has."""

import math
import re

import pytest
import yaml

from tests import ROOT

PAGE = (ROOT / "docs" / "reference" / "configs.md").read_text(encoding="utf-8")
#: The first cell of each row that begins with a config, and the second.
ROWS = re.findall(r"^\| `(configs/[\w/]+\.yaml)` \| ([^|]*) \|", PAGE, re.MULTILINE)
SHIPPED = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.*"))


def test_every_config_has_a_row_and_every_row_a_config():
    assert len(SHIPPED) > 20
    assert sorted(name for name, _ in ROWS) == SHIPPED


def test_what_is_named_elsewhere_on_the_page_is_shipped():
    assert {*re.findall(r"configs/[\w/]+\.yaml", PAGE)} <= {*SHIPPED}


@pytest.mark.parametrize("name", [name for name in SHIPPED if "/study/" in name])
def test_a_study_has_as_many_runs_as_the_page_says(name):
    """A run for each cell, each combination of its grid and each seed."""
    study = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    cells = sum(math.prod(map(len, cell.get("grid", {}).values())) for cell in study["cells"])
    assert len(study["seeds"]) * cells == int(dict(ROWS)[name])
