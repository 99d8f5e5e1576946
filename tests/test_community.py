"""What a repository's host reads: CITATION.cff, the forms of issues, and the template of pull requests."""

import re
import shlex
import tomllib

import pytest
import yaml

import thermoebm
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = {
    path.stem: yaml.safe_load(path.read_text("utf-8")) for path in TEMPLATES.glob("*.yml") if path.stem != "config"
}
#: BibTeX, by the page that has some.
BIBTEX = {
    path.relative_to(ROOT).as_posix(): found
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if (found := re.findall(r"```bibtex\n(.*?)```", path.read_text("utf-8"), re.DOTALL))
}
# Of https://docs.github.com/en/communities, "Syntax for GitHub's form schema".
ELEMENTS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def names(authors):
    return [" ".join(filter(None, (a.get("given-names"), a.get("family-names") or a.get("name")))) for a in authors]


def test_the_citation_is_of_this_version_by_the_authors_of_the_package():
    """With the keys that the Citation File Format 1.2.0 requires."""
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["version"] == thermoebm.__version__
    assert CITATION["license"] == PROJECT["license"]
    assert names(CITATION["authors"]) == [author["name"] for author in PROJECT["authors"]]
    assert CITATION["title"].startswith(PROJECT["name"])
    assert CITATION["keywords"] == PROJECT["keywords"]


def test_both_papers_are_cited_with_their_authors():
    assert {reference["title"]: names(reference["authors"]) for reference in CITATION["references"]} == {
        "Learning Latent Space Energy-Based Prior Model": [
            "Bo Pang",
            "Tian Han",
            "Erik Nijkamp",
            "Song-Chun Zhu",
            "Ying Nian Wu",
        ],
        "Shaping the learning gradient distribution with thermodynamic integration": ["Prithvi Raj", "Mark Girolami"],
    }
    for reference in CITATION["references"]:
        assert reference["type"] in ("conference-paper", "report")  # of the format's list
        assert type(reference["year"]) is int


@pytest.mark.parametrize("page", BIBTEX)
def test_bibtex_of_a_page_names_both_papers_as_the_citation_does(page):
    entries = re.sub(r"[{}\s]+", " ", " ".join(BIBTEX[page])).lower()
    for reference in CITATION["references"]:
        wanted = [reference["title"], str(reference["year"]), *(a["family-names"] for a in reference["authors"])]
        assert [text for text in wanted if text.lower() not in entries] == []


def test_there_is_a_form_for_a_fault_a_question_and_wrong_mathematics():
    assert set(FORMS) == {"bug", "question", "wrong-mathematics"}
    assert yaml.safe_load((TEMPLATES / "config.yml").read_text("utf-8")) == {"blank_issues_enabled": True}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_form_is_one_that_the_host_accepts(form):
    """It silently shows no form that it does not."""
    assert set(form) == {"name", "description", "labels", "body"}
    fields = [element for element in form["body"] if element["type"] != "markdown"]
    assert fields
    assert {element["type"] for element in form["body"]} <= ELEMENTS
    for element in form["body"]:
        assert set(element) <= {"type", "id", "attributes", "validations"}
        if element["type"] == "markdown":
            assert set(element["attributes"]) == {"value"}
            assert isinstance(element["attributes"]["value"], str)
    for key in ("id", "label"):
        given = [element["id"] if key == "id" else element["attributes"]["label"] for element in fields]
        assert len(set(given)) == len(given)
    for element in fields:
        assert re.fullmatch(r"[\w-]+", element["id"])
        assert element.get("validations", {"required": True}) == {"required": True}
        options = element["attributes"].get("options", ["."])
        assert all(isinstance(option, str) for option in options)  # unquoted, a Yes would be true
        assert len(set(options)) == len(options)
        assert ("options" in element["attributes"]) == (element["type"] == "dropdown")
    assert any(element.get("validations") for element in fields)


def test_the_command_that_a_fault_asks_for_prints_the_versions(capsys):
    (asked,) = (e["attributes"] for e in FORMS["bug"]["body"] if e.get("id") == "versions")
    (command,) = re.findall("`(.*)`", asked["description"])
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert capsys.readouterr().out.split()[0] == thermoebm.__version__


def test_a_pull_request_is_asked_why_what_was_checked_and_what_was_broken_on_purpose():
    text = (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text("utf-8")
    headings = re.findall("^## (.+)$", text, re.MULTILINE)
    assert headings[:3] == ["Why", "What was checked", "Broken on purpose"]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall("`make ([^`]+)`", text)) <= targets
    assert "## Tests" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")  # to which it points
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
