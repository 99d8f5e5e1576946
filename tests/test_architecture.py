"""Which folder may import which, and what each says of itself: docs/architecture.md as tests."""

import ast
import importlib
import re
from graphlib import TopologicalSorter

import pytest

import thermoebm
from tests import ROOT

#: Lowest first: imports point up this list only. (A program that is started by its name, ``__main__``, is in cli.)
ORDER = [
    *("runtime", "densities", "networks", "ladders", "schedules", "optim"),
    *("samplers", "evidence", "objectives", "modules"),
    *("data", "gradients", "metrics", "runs", "callbacks", "applications"),
    *("study.planning", "study.running", "study.analysis", "study.figures", "study.page", "cli"),
]
PACKAGE = ROOT / "thermoebm"


def name_of(path):
    """thermoebm/study/page/__init__.py is thermoebm.study.page."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
#: Packages, whose __init__ hands out what is below them and is imported by whoever imports that.
PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py"}


def imported(path):
    """Modules of this package that a file imports, anywhere in it, or hands out when asked (runtime/lazy.py)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                if below in FILES or node.module in FILES:
                    yield below if below in FILES else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("lazy.attach", "_lazy.attach"):
            yield from (f"{name_of(path)}.{module}" for module in ast.literal_eval(node.args[1]))


def room(module):
    """The entry of ORDER that a module belongs to."""
    if module.endswith("__main__"):
        return "cli"
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts[0] == "study" else parts[:1])


MODULES = {name: path for name, path in FILES.items() if name not in ("thermoebm", "thermoebm.study")}


def test_every_file_has_a_room_and_every_room_has_a_file():
    assert {room(module) for module in MODULES} == set(ORDER)


def test_imports_point_up_the_list_only():
    wrong = []
    for module, path in MODULES.items():
        for target in imported(path):
            if target == "thermoebm":  # for its version; what it hands out is for users
                wrong += [f"{module} <- thermoebm"] if module != "thermoebm.study.running.worker" else []
            elif ORDER.index(room(target)) > ORDER.index(room(module)):
                wrong.append(f"{module} <- {target}")
    assert wrong == []


def test_no_two_files_import_each_other():
    """Also within a folder, through what folders hand out, and however many files are between them."""
    graph = {module: {*imported(path)} - {module, "thermoebm"} for module, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_a_file_imports_nothing_from_the_folder_it_is_in():
    """The folder's __init__ imports the file: either may come first."""
    own = [(module, module.rpartition(".")[0]) for module in MODULES if module not in PACKAGES]
    assert [module for module, package in own if package in {*imported(FILES[module])} - {"thermoebm"}] == []


@pytest.mark.parametrize("room_", ["gradients", "metrics"])
def test_measurements_know_neither_this_packages_models_nor_its_data_sets(room_):
    """They take losses, parameters and tensors: anybody's."""
    known = {room(t) for module, path in MODULES.items() if room(module) == room_ for t in imported(path)}
    assert known <= {"runtime", room_}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_folder_says_in_two_sentences_what_it_is_and_hands_out_its_names(package):
    module = importlib.import_module(package)
    first, second = re.split(r"\n\n", module.__doc__.strip(), maxsplit=1)
    assert first.endswith(".")
    assert second.endswith(".")
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert f"{package}.{name}" not in FILES, f"{name} is a file too: which of them is meant?"
        assert hasattr(module, name)
    assert set(module.__all__) <= set(dir(module))
    assert not hasattr(module, "nothing_of_that_name")


def test_the_page_on_the_architecture_lists_the_folders_in_this_order():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## The folders")[2].partition("\n## ")[0]
    listed = []
    for row in re.findall(r"^\| `.*$", table, re.MULTILINE):
        folder, lives = (re.findall(r"`(\w+)(?:/|\.py)`", cell) for cell in row.split("|")[1:3])
        listed += [f"study.{part}" for part in lives] if folder == ["study"] else folder
    assert listed == ORDER


def test_whatever_is_imported_by_name_is_there():
    """Folders that hand out names lazily take any name of a type checker: here each is asked for."""
    absent = []
    for path in [file for part in ("thermoebm", "tests", "benchmarks") for file in (ROOT / part).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "thermoebm":
                module = importlib.import_module(node.module)
                names = (alias.name for alias in node.names if f"{node.module}.{alias.name}" not in FILES)
                absent += [f"{path}: {node.module}.{name}" for name in names if not hasattr(module, name)]
    assert absent == []


def test_editors_are_told_of_the_names_that_thermoebm_hands_out():
    tree = ast.parse(FILES["thermoebm"].read_text(encoding="utf-8"))
    (known,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told = {alias.asname or alias.name for node in known.body for alias in node.names}
    assert told == {*thermoebm.__all__}


def test_tests_stand_in_the_folders_of_the_package():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(folders) > 15
    assert {str(folder) for folder in folders if not (PACKAGE / folder).is_dir()} == {"site"}  # which is of docs/
