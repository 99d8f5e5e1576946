"""Whoever installs thermoebm, which is under MIT, gets nothing with it that asks for more than to be named."""

import re
import tomllib
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: SPDX names, then what packages without an SPDX expression write for the same licences.
ALLOWED = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
    *("3-Clause BSD License", "Apache 2.0", "Apache License 2.0", "Apache Software License", "BSD", "BSD License"),
    *("MIT License", "Python Software Foundation License"),
}
#: Packages with another licence, and why they may be needed all the same: by the beginning of their name.
EXCEPTIONS = {
    "tqdm": "partly MPL-2.0, which asks only that changed files of tqdm itself stay open; none is changed",
    "nvidia-": "CUDA's libraries, proprietary: torch's builds for CUDA load them, and we neither ship nor link them",
    "cuda-": "likewise",
}


def closure(dependencies):
    """Names of the installed packages that these requirements need, directly or not, extras included."""
    found, waiting = set(), [Requirement(text) for text in dependencies]
    while waiting:
        need = waiting.pop()
        known = (canonicalize_name(need.name), frozenset(need.extras))
        if known in found:
            continue
        try:
            inner = [Requirement(text) for text in requires(need.name) or []]
        except PackageNotFoundError:
            continue  # optional to this machine, or brought along without its metadata
        found.add(known)
        extras = ("", *need.extras)
        waiting += [r for r in inner if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    return {name for name, _ in found}


def licence(about):
    """What a package says of its licence: an SPDX expression, else its classifiers, else its own words."""
    if expression := about.get("License-Expression"):
        return expression
    classified = [text.split(" :: ")[-1] for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    words = [text for text in classified if text != "OSI Approved"]
    return " AND ".join(words) or " ".join((about.get("License") or "unknown").split())[:100]


def allowed(text):
    """Whether every licence of an ``AND``, and any of an ``OR``, is in the list."""
    parts = re.split(r" AND ", text.replace("(", "").replace(")", ""))
    return all(any(choice.strip() in ALLOWED for choice in part.split(" OR ")) for part in parts)


def test_what_thermoebm_needs_has_a_licence_that_fits_its_own():
    assert PROJECT["license"] == "MIT"
    needed = closure(PROJECT["dependencies"])
    assert {"torch", "lightning", "aiohttp", "sympy"} <= needed  # not only what is named in pyproject.toml
    assert not {"pytest", "ruff", "thermoebm"} & needed
    found = {name: licence(metadata(name)) for name in sorted(needed)}
    others = {name: text for name, text in found.items() if not allowed(text)}
    assert {name: text for name, text in others.items() if not name.startswith(tuple(EXCEPTIONS))} == {}


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ([("License-Expression", "MIT")], True),
        ([("License-Expression", "MIT OR GPL-3.0-only")], True),
        ([("License-Expression", "MIT AND GPL-3.0-only")], False),
        ([("License-Expression", "AGPL-3.0-or-later"), ("License", "MIT")], False),
        ([("Classifier", "License :: OSI Approved :: BSD License"), ("License", "a long text")], True),
        ([("Classifier", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)")], False),
        ([("Classifier", "Programming Language :: Python"), ("License", "Apache-2.0")], True),
        ([("License", "LGPLv2+, not MIT")], False),
        ([], False),
    ],
)
def test_the_judge_of_licences(fields, fits):
    about = Message()
    for name, value in fields:
        about[name] = value
    assert allowed(licence(about)) == fits
