"""Formulas become MathML while the site is built: no page runs a script or asks another host for one.

pymdownx.arithmatex finds ``$...$`` and ``$$...$$``; latex2mathml converts them. It passes over what it does not know
without a word, so that its result is checked here: a formula that is not understood stops the build.
"""

import re
from html import unescape
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
NAMESPACE = "http://www.w3.org/1998/Math/MathML"
#: Elements whose children have fixed places; with another number of them, an argument is missing.
CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "mroot": 2, "msubsup": 3, "munderover": 3}
#: Operators that are words: MathML leaves no space between them and what they act on.
WORDS = {"log", "ln", "exp", "max", "min", "sup", "inf", "arg", "det", "lim", "Var", "Cov", "tr", "KL"}


def on_page_content(html, page, **_):
    return FORMULA.sub(lambda match: mathml(match[2], match[1] == "div", page.file.src_uri), html)


def mathml(escaped, display, where):
    """The formula as MathML; PluginError, with the page's name and the formula, if it has no sense."""
    formula = " ".join(unescape(escaped).split())
    try:
        if fault := balance(formula):
            raise ValueError(fault)
        source = convert(formula, display="block" if display else "inline")
        tree = ElementTree.fromstring(source.replace("<mi>&</mi>", "<mi>\\&amp;</mi>"))
        if fault := fault_of(tree):
            raise ValueError(fault)
    except Exception as error:  # latex2mathml has many of its own, most without a text
        why = str(error) or type(error).__name__
        raise PluginError(f"{where}: the formula {formula} cannot be converted ({why}).") from error
    for parent in tree.iter():
        space_words(parent)
    for sign in tree.iter():
        if sign.text == ";":  # taken for a letter
            sign.tag = f"{{{NAMESPACE}}}mo"
        elif sign.text in ("|", "∣"):  # also \mid: no relation here, but what a density is conditioned on
            sign.attrib |= {"lspace": "0.08em", "rspace": "0.08em"}
    tree.set("title", formula)
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(tree, encoding="unicode")


def balance(formula):
    """What is wrong with the formula's braces, if anything."""
    bare = re.sub(r"\\[{}\\]", "", formula)
    depth = 0
    for sign in re.findall(r"[{}]", bare):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            break
    if depth:
        return "its braces do not pair up"
    words = re.findall(r"\\(left|right)(?![a-zA-Z])", bare)
    return r"\left and \right do not pair up" if words.count("left") != words.count("right") else ""


def fault_of(tree):
    """What latex2mathml did not understand, if anything."""
    for element in tree.iter():
        name = element.tag.removeprefix(f"{{{NAMESPACE}}}")
        if "\\" in (text := element.text or "") and name != "mtext":
            return f"{text} is not known"
        if len(element) != CHILDREN.get(name, len(element)):
            return f"{name} has {len(element)} of {CHILDREN[name]} arguments"
    return ""


def space_words(parent):
    """A thin space between log, exp and the like and what is beside them, but none before a bracket."""
    if parent.tag != f"{{{NAMESPACE}}}mrow":
        return
    for place in reversed(range(len(parent) - 1)):
        left, right = parent[place], parent[place + 1]
        after = is_word(left) and not right.tag.endswith(("}mo", "}mspace"))
        before = is_word(right) and (left.text in (")", "]") or not left.tag.endswith(("}mo", "}mspace")))
        if after or before:
            parent.insert(place + 1, ElementTree.Element(f"{{{NAMESPACE}}}mspace", {"width": "0.167em"}))


def is_word(element):
    """Whether this is such a word, with or without an index."""
    base = element[0] if element.tag.endswith(("}msub", "}msup", "}msubsup", "}munder")) else element
    return (base.text or "") in WORDS
