"""What the site's own hooks do to formulas, notebooks, folders and docstrings."""

import importlib.util
import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from tests import ROOT

exceptions = pytest.importorskip("mkdocs.exceptions", reason="mkdocs is not installed (make venv)")


def load(name):
    """A hook as a module; MkDocs loads it by its path too."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs/_site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


formulas, notebooks, folders = load("formulas"), load("notebooks"), load("folders")


def text(mathml):
    return "".join(ElementTree.fromstring(mathml).itertext())


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        (r"p_\alpha(z) \propto \exp(f_\alpha(z))", "pα(z)∝exp(fα(z))"),
        (r"\int_0^1 \mathbb{E}_t[\log p_\beta(x|z)] \, dt", "∫01𝔼t[logpβ(x|z)]dt"),
        (r"\left( \frac{i}{N_t} \right)^p", "(iNt)p"),
        (r"p_t(z \mid x)", "pt(z∣x)"),
        (r"\sum_{i=1}^{N} \Delta_i \lVert z \rVert^2 \leq \{ 1 \}", "∑i=1NΔi‖z‖2≤{1}"),
    ],
)
def test_formulas_keep_their_signs(formula, shown):
    result = formulas.mathml(formula, False, "page.md")
    assert text(result) == shown
    assert result.startswith("<math ")
    assert 'display="inline"' in result
    assert 'display="block"' in formulas.mathml(formula, True, "page.md")


@pytest.mark.parametrize("bar", ["|", r"\mid "])
def test_the_bar_of_a_condition_stands_close(bar):
    result = ElementTree.fromstring(formulas.mathml(f"p(x{bar}z)", False, "page.md"))
    (sign,) = (element for element in result.iter() if element.text in ("|", "∣"))
    assert (sign.get("lspace"), sign.get("rspace")) == ("0.08em", "0.08em")


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        (r"\nonsense{x}", "is not known"),
        (r"\frac{a", "braces"),
        (r"a_{b", "braces"),
        (r"a} + {b", "braces"),
        (r"\frac{a}", "1 of 2 arguments"),
        (r"\left( x", "pair up"),
        (r"\begin{aligned} a &= b \end{aligned}", "is not known"),
        (r"x_", "cannot be converted"),
    ],
)
def test_a_formula_without_sense_is_an_error_that_names_page_and_formula(formula, fault):
    named = rf"^concepts/model\.md: the formula {re.escape(formula)} .*{fault}"
    with pytest.raises(exceptions.PluginError, match=named):
        formulas.mathml(formula, False, "concepts/model.md")


@pytest.mark.parametrize(
    ("formula", "spaces"),
    [
        *((r"\log p", 1), (r"\exp(f)", 0), (r"t \log p", 2), (r"\log_2 p", 1)),
        *((r"p(x) \exp(f)", 1), (r"-\log p", 1), ("tp", 0)),
    ],
)
def test_words_have_a_space_before_a_letter_and_none_before_a_bracket(formula, spaces):
    assert formulas.mathml(formula, False, "page.md").count("<mspace") == spaces


def notebook(tmp_path, *outputs):
    path = tmp_path / "seen.ipynb"
    code = {"cell_type": "code", "source": ["print('```')"], "outputs": list(outputs)}
    cells = [{"cell_type": "markdown", "source": ["# Seen\n", "\n", "Text."]}, code]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_notebook_becomes_markdown_with_its_outputs(tmp_path):
    drawn = {"output_type": "display_data", "data": {"image/png": "aGk=\n", "text/plain": ["<Figure>"]}}
    path = notebook(tmp_path, {"output_type": "stream", "name": "stdout", "text": ["\x1b[1m```\x1b[0m\n"]}, drawn)
    markdown, pictures = notebooks.markdown(path)
    assert pictures == {"seen-1-1.png": b"hi"}
    assert markdown.startswith('# Seen\n\n<a href="seen.ipynb" download>')
    assert "```` python\nprint('```')\n````" in markdown
    assert "```` { .text .output }\n```\n````" in markdown
    assert "](seen-1-1.png)" in markdown
    assert "<Figure>" not in markdown


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []},
        {"output_type": "stream", "name": "stderr", "text": ["a warning"]},
        {"output_type": "display_data", "data": {"application/x-unknown": ""}},
    ],
)
def test_what_a_notebook_should_not_have_stops_the_build(tmp_path, output):
    with pytest.raises(exceptions.PluginError, match=r"seen\.ipynb"):
        notebooks.markdown(notebook(tmp_path, output))


def test_a_link_to_a_folder_leads_to_its_page(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study/index.html").touch()
    page, config = SimpleNamespace(file=SimpleNamespace(src_uri="results.md")), {"docs_dir": str(tmp_path)}
    given = "[a](study/) [b](study/x.png) [c](none/)"
    found = folders.on_page_markdown(given, page=page, config=SimpleNamespace(**config))
    assert found == "[a](study/index.html) [b](study/x.png) [c](none/)"
