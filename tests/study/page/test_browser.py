"""The page of a study in a real browser: what it shows, does and fetches."""

import pytest

from tests.objectives.contrast import TEXTS, contrast
from tests.study.folder import ACROSS, CELLS, FIGURES, HOSTILE, make
from thermoebm.study import page as study_page


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(path of the page, final.csv as numbers)."""
    folder = tmp_path_factory.mktemp("study")
    final = make(folder)
    return study_page.write(folder), final


def column(page, name):
    """Texts of a column of the table of runs, as they stand, of the rows that are shown."""
    return page.evaluate(
        """name => {
            const table = document.querySelector("#runs table");
            const at = [...table.tHead.rows[0].cells].findIndex(th => (th.title || th.innerText.trim()) === name);
            return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[at].textContent);
        }""",
        name,
    )


def test_loads_in_silence_and_shows_every_figure(open_page):
    """The fixture sees to errors and requests; a hostile name neither runs nor changes the title's text."""
    page = open_page()
    page.wait_for_load_state("networkidle")
    widths = page.eval_on_selector_all("figure .enlarge img", "all => all.map(image => image.naturalWidth)")
    assert widths == [320] * len(FIGURES)
    assert page.locator("h1").inner_text() == f"digits {HOSTILE}"
    assert page.title() == f"digits {HOSTILE}"


def test_the_fixture_hears_of_errors_and_requests(browser, study, tmp_path):
    """The policy forbids what an injected element would do."""
    html = study[0].read_text()
    hostile = "<script>document.title = 'run'</script><img src='https://example.org/x.png' onerror='document.title=1'>"
    (tmp_path / "index.html").write_text(html.replace("</main>", f"{hostile}</main>"))
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "index.html").as_uri())
    assert page.title() == f"digits {HOSTILE}"
    assert sum("Content Security Policy" in line for line in said) >= 2
    page.close()


def test_numbers_sort_as_numbers_both_ways(open_page, study):
    """Against Python's sort of the table's own numbers; a run without a value is last both ways."""
    page = open_page()
    header = page.locator(f'#runs th[title="{ACROSS}"]')
    final = study[1].sort_values(ACROSS, na_position="last")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(page, "run") == list(final["run"])
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, "run") == [*final["run"][-2::-1], final["run"].iloc[-1]]
    assert column(page, ACROSS)[-1] == "–"
    assert sorted(map(str, final[ACROSS].dropna())) != [*map(str, final[ACROSS].dropna())]  # or text would do


def test_text_sorts_with_its_numbers_in_order(open_page):
    """p 10 comes after p 3, and batch 150 after batch 75."""
    page = open_page()
    page.locator("#runs th").nth(0).get_by_role("button").click()
    cells = list(dict.fromkeys(column(page, "cell")))
    assert cells == [HOSTILE, "batch 25", "batch 75", "batch 150", "p 0.1", "p 1", "p 3", "p 10", "width 16"]


def test_filter_keeps_rows_that_have_every_word(open_page, study):
    page = open_page()
    search = page.get_by_label("Filter runs")
    total = len(study[1])
    search.fill("BATCH done")
    assert set(column(page, "cell")) == {"batch 25", "batch 75", "batch 150"}
    assert page.locator("#runs output").inner_text() == f"6 of {total}"
    search.fill("failed")
    assert column(page, "cell") == [HOSTILE]
    search.fill("")
    assert len(column(page, "cell")) == total


def test_columns_are_chosen(open_page, study):
    page = open_page()
    page.get_by_text("Columns", exact=True).click()
    box = page.get_by_label("commit", exact=True)
    header = page.locator("#runs th", has_text="commit")
    search = page.get_by_label("Filter runs")
    search.fill("12e4567")
    before = len(column(page, "run"))
    box.check()
    assert header.is_visible()
    assert page.locator("#runs td:visible", has_text="12e4567").count() >= len(study[1])
    assert (before, len(column(page, "run"))) == (1, len(study[1]))  # a run's own hash is 12e4567 too
    box.uncheck()
    assert not header.is_visible()


def test_claims_sort_by_effect(open_page):
    page = open_page()
    page.locator("#claims th", has_text="Effect").get_by_role("button").click()
    shown = page.locator("#claims tbody td:first-child small").all_inner_texts()
    assert shown == ["eta", "batch-variance", "batch-fidelity"]  # -10.5, -0.91, 0.2


def test_slider_changes_the_picture(open_page):
    """By keys; another run has other pictures; the second grid stays as it is."""
    page = open_page()
    block, other = page.locator(".sample-grids").all()
    picture, still = block.locator("img"), other.locator("img").get_attribute("src")
    slider, said = block.get_by_role("slider"), block.locator("output")
    assert said.inner_text() == "30 of 30"
    last = picture.get_attribute("src")
    slider.press("Home")
    assert said.inner_text() == "10 of 30"
    assert block.locator("figcaption").inner_text() == "batch 25, seed 0, epoch 10: kernel distance (test) 0.1"
    first = picture.get_attribute("src")
    slider.press("ArrowRight")
    assert said.inner_text() == "20 of 30"
    assert len({first, last, picture.get_attribute("src")}) == 3
    block.locator("select").select_option(label="p 10, seed 0")
    assert picture.get_attribute("src") != last
    assert "p 10, seed 0 after epoch 30" in picture.get_attribute("alt")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 132
    assert other.locator("img").get_attribute("src") == still
    assert block.locator("option").count() == len(CELLS)


@pytest.mark.parametrize(("width", "height"), [(320, 640), (768, 1024), (1600, 1000)])
def test_nothing_is_wider_than_the_screen(open_page, width, height):
    """Every fold open: only what scrolls in itself may be wider."""
    page = open_page(width, height)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """() => [...document.querySelectorAll("main *, header *, footer *")]
            .filter(e => !e.closest(".scroll *, pre *") && e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert beyond == []


def test_a_laptop_s_first_screen_has_the_main_figure_and_its_tables_show_every_column(open_page):
    """At 1300 x 900, with room for a scrollbar inside each table: some browsers draw one."""
    page = open_page(1300, 900)
    figure = page.locator(".lead figure").bounding_box()
    assert figure["y"] > 0
    assert figure["y"] + figure["height"] < 900
    for name in ("claims", "runs"):
        page.evaluate(f"document.querySelector('#{name} .scroll').style.paddingRight = '15px'")
        beyond = page.eval_on_selector(f"#{name} .scroll", "box => box.scrollWidth - box.clientWidth")
        assert beyond == 0, name


def test_contrast_of_known_colours():
    """Black on white is 21 by definition; #767676 on white is the lightest grey that WCAG's authors quote as enough."""
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(open_page, scheme):
    """At least 4.5 to 1 for every text that is shown, with all folds open."""
    page = open_page(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    found = page.evaluate(TEXTS)
    assert len(found) > 500
    assert {where for where, colour, ground in found if contrast(colour, ground) < 4.5} == set()


def test_dark_and_light(open_page):
    """As the system says, until the button is pressed; the choice outlives a reload."""
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")
    white, black = light.evaluate(ground), dark.evaluate(ground)
    assert white != black
    button = light.locator("#theme")
    assert (button.inner_text(), dark.locator("#theme").inner_text()) == ("Dark", "Light")
    button.click()
    assert light.evaluate(ground) == black
    light.reload()
    assert light.evaluate(ground) == black
    button.click()
    assert light.evaluate(ground) == white


def test_a_figure_is_enlarged_and_put_away_by_keys(open_page):
    page = open_page()
    button = page.locator(".enlarge").nth(1)
    button.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    image = dialog.locator("img")
    assert image.get_attribute("src") == button.locator("img").get_attribute("src")
    assert image.bounding_box()["width"] > button.locator("img").bounding_box()["width"] * 1.5
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_run_leads_to_its_config(open_page):
    page = open_page()
    config = page.locator("#run-02e4567 pre").last
    assert not config.is_visible()
    page.locator("#runs a", has_text="02e4567").click()
    config.wait_for(state="visible")  # the page hears of the link a moment later
    assert "name: 02e4567" in config.inner_text()


def test_without_script_it_can_still_be_read(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#runs tbody tr").count() == 2 * len(CELLS) + 1
    assert page.locator(".sample-grids img").first.is_visible()
    assert [element for element in page.locator(".needs-script").all() if element.is_visible()] == []


def test_prints_all_columns_on_white(open_page):
    page = open_page(794, 1123, color_scheme="dark")  # A4 at 96 px an inch
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert not page.locator("#theme").is_visible()
    assert page.locator("#runs td:visible").count() > len(CELLS)
