"""Lets the API pages be made from the package as it is, without importing it.

Docstrings name classes as Sphinx does, :class:`name`: such a name becomes a link where the site documents it. Packages
that import a name when it is asked for (thermoebm/runtime/lazy.py) get the names that they hand out.
"""

import ast
import re
from html import escape

import griffe

#: What is set apart by a blank line and indented: shown as it stands.
VERBATIM = re.compile(r"(?<=\n\n)(?: {4}.*\n?)+")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`(~?)([\w.]+)`")


class Docstrings(griffe.Extension):
    """Runs on each object once all of the package has been read."""

    def on_module(self, *, mod, **_):
        if mod.is_init_module:
            for name, path in handed_out(mod):
                mod.set_member(name, griffe.Alias(name, path))

    def on_object(self, *, obj, **_):
        if obj.docstring:
            # The fields of a named tuple are not arguments of an __init__ that could be read.
            if obj.is_class and any(str(base).endswith("NamedTuple") for base in obj.bases):
                obj.docstring.value = obj.docstring.value.replace("\nArgs:\n", "\nAttributes:\n")
            value = VERBATIM.sub(lambda lines: plain(lines[0]), obj.docstring.value)
            obj.docstring.value = ROLE.sub(lambda role: link(role[2], bool(role[1]), obj), value)


def plain(lines):
    """Lines that are shown as they stand: names without markup."""
    return ROLE.sub(lambda role: displayed(role[2], bool(role[1])), lines.replace("``", ""))


def handed_out(package):
    """(name, path) of all that a package's ``lazy.attach`` names."""
    for node in ast.walk(ast.parse(package.filepath.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("lazy.attach", "_lazy.attach"):
            for module, names in ast.literal_eval(node.args[1]).items():
                for given, _, own in (name.partition("=") for name in names.split()):
                    yield given, f"{package.path}.{module}.{own or given}"


def link(name, short, obj):
    """A reference that becomes a link if some page documents it, and stays code if none does."""
    try:
        path = obj.resolve(name)
    except griffe.NameResolutionError:
        path = name
    return f'<autoref optional identifier="{escape(path)}"><code>{escape(displayed(name, short))}</code></autoref>'


def displayed(name, short):
    """What a reader sees of a name: without the packages that it is in."""
    return name.rpartition(".")[2] if short or name.startswith("thermoebm.") else name
