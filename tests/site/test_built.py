"""The built site: its links, what it loads, its formulas, notebooks and API pages."""

import filecmp
import importlib
import json
import posixpath
import re
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests import ROOT
from tests.site.conftest import build

DOCS = ROOT / "docs"
#: Hosts that pages may link to. None is asked for anything before a reader follows the link.
HOSTS = {"arxiv.org", "docs.astral.sh", "doi.org", "download.pytorch.org", "github.com", "proceedings.neurips.cc"}
#: A documented package and its page.
API = {
    **{name: f"{name}.md" for name in ("modules", "networks", "objectives", "densities", "samplers", "evidence")},
    **{name: f"{name}.md" for name in ("gradients", "metrics", "data", "callbacks", "runs", "applications", "study")},
    "applications.evidence": "applications.md",
}


def target(page, link):
    """(path below the site, anchor) of an internal link on a page."""
    address = urlsplit(link)
    here = "" if address.path.startswith("/") else posixpath.dirname(page)
    path = posixpath.normpath(posixpath.join(here, unquote(address.path).lstrip("/"))) if address.path else page
    return ("index.html" if path == "." else path), unquote(address.fragment)


def entries(nav):
    """Every path of the navigation, in order."""
    for entry in nav:
        for inner in entry.values() if isinstance(entry, dict) else [entry]:
            yield from entries(inner) if isinstance(inner, list) else [inner]


def navigation():
    """Every page that mkdocs.yml names, in order."""
    return list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


def sources(ending):
    """Files of docs/ by the ending of their names, without what editors hide there."""
    paths = sorted(DOCS.rglob(f"*.{ending}"))
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(DOCS).parts)]


def built_as(name):
    """The page that a source becomes."""
    return re.sub(r"(README|index)?\.(md|ipynb)$", lambda match: f"{'index' if match[1] else ''}.html", name)


def test_every_page_is_in_the_navigation_once():
    written = [path.relative_to(DOCS).as_posix() for ending in ("md", "ipynb") for path in sources(ending)]
    assert sorted(navigation()) == sorted(written)


def test_every_page_is_built_and_linked_from_the_home_page(pages):
    built = {built_as(name) for name in navigation()}
    assert built == set(pages) - {"404.html"}
    seen, waiting = set(), ["index.html"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page in pages:
            seen.add(page)
            waiting += [target(page, link)[0] for link in pages[page].links if not urlsplit(link).scheme]
    assert built <= seen


def test_every_internal_link_leads_somewhere(site, pages):
    broken, followed = [], 0
    for name, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or urlsplit(link).netloc:
                continue
            path, anchor = target(name, link)
            followed += 1
            if not (site / path).is_file() or (anchor and path in pages and anchor not in pages[path].ids):
                broken.append((name, link))
    assert broken == []
    assert followed > 1000  # the navigation alone has more


def test_links_to_other_places_are_https_and_to_known_hosts(pages):
    links = {link for page in pages.values() for link in page.links}
    others = [urlsplit(link) for link in sorted(links) if urlsplit(link).scheme]
    assert [link.geturl() for link in others if link.scheme != "https" or link.hostname not in HOSTS] == []


def test_no_page_loads_anything_from_elsewhere(site, pages):
    loads = {(name, address) for name, page in pages.items() for address in page.loads if address[:5] != "data:"}
    assert {name for name, _ in loads} == set(pages)  # each has the theme's style and script
    for style in site.rglob("*.css"):
        found = re.findall(r"url\(['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", style.read_text(encoding="utf-8"))
        name = style.relative_to(site).as_posix()
        loads |= {(name, first or second) for first, second in found if (first or second)[:5] != "data:"}
    outside = {(name, address) for name, address in loads if urlsplit(address).scheme or urlsplit(address).netloc}
    assert outside == set()
    missing = {(name, address) for name, address in loads if not (site / target(name, address)[0]).is_file()}
    assert missing == set()


def source_of(page):
    """The text of the page's source that is not code."""
    path = DOCS / page.replace(".html", ".md")
    if not path.exists() and path.stem == "index":
        path = path.with_name("README.md")
    if path.exists():
        text = path.read_text(encoding="utf-8")
    elif (notebook := path.with_suffix(".ipynb")).exists():
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        return ""
    text = re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n|\n)+", "\n", text)  # blocks that are code because they are indented
    return re.sub(r"(`+).*?\1", "", text, flags=re.DOTALL)


def test_every_formula_became_mathml(pages):
    number = 0
    for name, page in pages.items():
        written = re.findall(r"\$\$.+?\$\$|\$[^$\s](?:[^$\n]|\n(?!\n))*?\$", source_of(name), flags=re.DOTALL)
        assert len(page.formulas) == len(written), (name, written)
        assert all(formula.strip() for formula in page.formulas), name
        assert not re.search(r"\$|\\[()\[\]a-z]", page.text), name
        number += len(written)
    assert number >= 8  # the home page has some, and the pages on the model many


def test_pictures_have_descriptions(pages):
    shown = [(name, address, alt) for name, page in pages.items() for address, alt in page.pictures]
    assert [(name, address) for name, address, alt in shown if not alt] == []
    assert len(shown) > len(pages)  # each page has the logo, and some have more


def test_notebooks_are_shown_with_their_outputs(site, pages):
    notebooks = sources("ipynb")
    total = 0
    for path in notebooks:
        name = path.relative_to(DOCS).with_suffix(".html").as_posix()
        page, shown = pages[name], 0
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if output["output_type"] == "stream":
                    assert "".join(output["text"]).split("\n")[0].strip() in page.all_text
                shown += any(kind.startswith("image/") for kind in output.get("data", {}))
        assert shown == sum(address.startswith(path.stem) for address, _ in page.pictures)
        total += shown
        assert filecmp.cmp(path, site / path.relative_to(DOCS), shallow=False)
        assert path.name in page.links
    assert total > 0


def public(package):
    return importlib.import_module(f"thermoebm.{package}").__all__


@pytest.mark.parametrize("package", API)
def test_api_pages_have_the_names_that_a_package_exports(pages, package):
    source = (DOCS / "reference/api" / API[package]).read_text(encoding="utf-8")
    named = re.findall(rf"^::: thermoebm\.{re.escape(package)}\.(\w+)$", source, flags=re.MULTILINE)
    assert sorted(named) == sorted(public(package))
    page = pages[f"reference/api/{API[package].replace('.md', '.html')}"]
    assert {f"thermoebm.{package}.{name}" for name in named} <= page.ids


def test_docstrings_have_no_markup_left(pages):
    left = {}
    for name in (name for name in pages if name.startswith("reference/api/")):
        found = re.findall(r".{0,30}(?:`|:(?:class|func|meth|mod):|::|={4,}).{0,30}", pages[name].text)
        if found := found + re.findall(r".{0,30}(?:``|</?autoref).{0,30}", pages[name].all_text):
            left[name] = found
    assert left == {}


def test_names_in_docstrings_are_links_where_the_site_has_them(pages):
    links = pages["reference/api/objectives.html"].links
    assert "schedules.html#thermoebm.schedules.Adaptive" in links


def test_a_bad_page_stops_the_build(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    settings |= {"docs_dir": str(docs), "site_dir": str(tmp_path / "site"), "plugins": [], "extra_css": []}
    settings |= {"hooks": [str(ROOT / hook) for hook in settings["hooks"]], "nav": ["index.md"]}
    settings["theme"] = {"name": "material", "font": False}
    config = tmp_path / "mkdocs.yml"
    config.write_text(yaml.safe_dump(settings))

    def fault(text: str, name: str = "index.md") -> str:
        (docs / name).write_text(text)
        return build(tmp_path / "site", str(config))

    assert fault("# Home\n\n$x^2$\n") == ""
    assert r"index.md: the formula \nonsense{x} cannot be converted" in fault("# Home\n\n$\\nonsense{x}$\n")
    assert "nowhere.md" in fault("# Home\n\n[lost](nowhere.md)\n")
    assert "#nowhere" in fault("# Home\n\n[lost](#nowhere)\n")
    assert fault("# Home\n") == ""
    assert "other.md" in fault("# Not in the navigation\n", "other.md")
