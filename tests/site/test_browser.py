"""The site in a real browser: narrow and wide, light and dark; its navigation and its search."""

import re

import pytest

PAGES = [
    "index.html",
    "concepts/thermodynamic-integration.html",
    "notebooks/thermodynamic-integration.html",
    "reference/api/objectives.html",
    "reference/metrics.html",
    "performance.html",
    "results.html",
]

#: What the theme calls its light and its dark colours.
SCHEMES = {"light": "default", "dark": "slate"}

#: Texts of the page whose contrast with what is behind them is below 4.5 (WCAG 2.1, 1.4.3), and how many were measured.
CONTRAST = """() => {
    // a canvas reads every way of writing a colour
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    const brush = canvas.getContext("2d", {willReadFrequently: true})
    const rgba = colour => {
        brush.clearRect(0, 0, 1, 1)
        brush.fillStyle = colour
        brush.fillRect(0, 0, 1, 1)
        const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data
        return [r, g, b, a / 255]
    }
    const over = (top, below) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * below[i])
    const behind = element => {
        if (!element) return [255, 255, 255]
        const own = rgba(getComputedStyle(element).backgroundColor)
        return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement))
    }
    const light = colour => colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    const luminance = colour => light(colour).reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0)
    const faint = [], texts = new Set()
    const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement
        if (walker.currentNode.data.trim() && element.checkVisibility() && !element.closest(".headerlink, button"))
            texts.add(element)
    }
    for (const element of texts) {
        const ground = behind(element)
        const text = over(rgba(getComputedStyle(element).color), ground)
        const [low, high] = [luminance(text), luminance(ground)].sort((a, b) => a - b)
        const contrast = (high + 0.05) / (low + 0.05)
        if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${element.outerHTML.slice(0, 60)}`)
    }
    return [faint, texts.size]
}"""

#: What of the article sticks out of the window, though no box of its own lets it scroll.
OVERFLOW = """() => {
    const scrolls = element => {
        for (let box = element; box.tagName !== "ARTICLE"; box = box.parentElement)
            if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return true
        return false
    }
    const out = [...document.querySelectorAll("article *")].filter(element => element.checkVisibility()
        && element.getBoundingClientRect().right > innerWidth + 1 && !scrolls(element))
    return out.map(element => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`)
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 1400])
def test_pages_fit_the_window_and_can_be_read(open_page, width, scheme):
    for path in PAGES:
        page = open_page(path, width=width, color_scheme=scheme)
        assert page.locator("body").get_attribute("data-md-color-scheme") == SCHEMES[scheme]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(OVERFLOW) == [], path
        faint, measured = page.evaluate(CONTRAST)
        assert faint == [], path
        assert measured > 20, path
        assert page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)") == []


def test_the_navigation_of_a_narrow_page(open_page):
    page = open_page("results.html", width=360)
    drawer, menu = page.locator("label.md-header__button[for=__drawer]"), page.locator(".md-nav--primary")
    drawer.click()
    menu.get_by_text("How stable", exact=True).click()
    page.wait_for_url(re.compile(r"stability\.html$"))
    drawer.click()
    menu.locator("label.md-nav__title:visible", has_text="Results").click()  # up, to all parts of the site
    menu.get_by_text("Quickstart", exact=True).click()
    page.wait_for_url(re.compile(r"quickstart\.html$"))


def test_the_navigation_of_a_wide_page(open_page):
    page = open_page("index.html")
    page.locator(".md-tabs").get_by_text("Concepts").click()
    page.wait_for_url(re.compile(r"concepts/model\.html$"))
    page.locator(".md-sidebar--primary").get_by_text("Thermodynamic integration", exact=True).click()
    page.wait_for_url(re.compile(r"concepts/thermodynamic-integration\.html$"))


def test_a_reader_can_choose_the_theme(open_page):
    page = open_page("index.html", color_scheme="light")
    body, toggle = page.locator("body"), page.locator("form[data-md-component=palette] label:visible")
    schemes = [body.get_attribute("data-md-color-scheme")]
    for _ in range(3):
        toggle.click()
        schemes.append(body.get_attribute("data-md-color-scheme"))
    assert schemes == ["default", "default", "slate", "default"]  # of the system, light, dark, of the system


def test_the_search_finds_a_page_and_a_name(open_page):
    page = open_page("index.html")
    for words, found in (("acceptance Metropolis", r"samplers\.html"), ("ReplicaExchange", r"samplers\.html")):
        page.locator("input.md-search__input").clear()
        page.locator("input.md-search__input").press_sequentially(words)
        page.locator(".md-search-result__item a").first.wait_for()
        links = page.locator(".md-search-result__item a").evaluate_all("links => links.map(link => link.href)")
        assert any(re.search(found, link) for link in links), (words, links)


def test_formulas_are_set_as_mathematics(open_page):
    page = open_page("index.html")
    formula = page.locator("math[display=block]").last
    assert "𝔼" in formula.text_content()
    assert formula.bounding_box()["height"] > 20  # the integral sign is larger than a line of text
    assert page.locator("math").evaluate_all("all => all.every(one => one.getBoundingClientRect().width > 5)")
