"""Each page of the book as a browser shows it: make test-browser.

Chromium opens the pages as files, on a phone, a tablet and a desk, light and dark.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from book import PROJECT, build_book
from playwright.sync_api import expect

from tests.browser.conftest import watched_page

AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}  # preloading is for servers
SOURCES = [*(PROJECT / "notebooks").glob("*.ipynb"), *(PROJECT / "docs").rglob("*.md")]
PAGES = sorted(path.relative_to(PROJECT).with_suffix(".html").as_posix() for path in SOURCES)
PAGES[PAGES.index("docs/index.html")] = "index.html"
PAGES += ["search.html"]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    return build_book([], tmp_path_factory.mktemp("build") / "book", strict=True).parent


@pytest.fixture(params=["light", "dark"])
def page(request, chromium):
    with watched_page(chromium, ("file:", "data:"), color_scheme=request.param) as page:
        yield page


def opened(page, site, name):
    page.goto((site / name).as_uri())
    wanted = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    expect(page.locator("html")).to_have_attribute("data-theme", wanted)
    expect(page.locator(".math:not(:has(svg))")).to_have_count(0)  # all formulas are drawn
    return page


@pytest.mark.parametrize("width", [390, 900, 1440])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_can_be_read_by_everybody(name, width, site, page):
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, site, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Code has the same colours at every width, and each of its words takes axe a while.
    where = None if width == 390 else {"exclude": [[".highlight"]]}
    found = Axe().run(page, where, AXE_OPTIONS).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], node["html"]) for fault in grave for node in fault["nodes"]] == []


def test_a_search_finds_a_word(site, page):
    opened(page, site, "index.html")
    page.locator("button.search-button-field:visible").click()
    page.locator("dialog input[name=q]").fill("momentum")
    page.keyboard.press("Enter")
    results = page.locator("#search-results li a")
    expect(results.filter(has_text="3. Train with progress bars").first).to_be_visible()


@pytest.mark.parametrize(("width", "menus"), [(390, 2), (1000, 1), (1440, 0)])
def test_each_menu_is_in_view_or_its_button_opens_it(width, menus, site, page):
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, site, "notebooks/03_train_with_progress_bars.html")
    expect(page.locator(".bd-header-article .sidebar-toggle:visible")).to_have_count(menus)
    for menu, words in (("secondary", "The loss"), ("primary", "4. Plot accuracy curves")):
        button = page.locator(f".bd-header-article .{menu}-toggle")
        if button.is_visible():
            button.click()
            expect(page.locator(f"#pst-{menu}-sidebar-modal")).to_be_visible()
        entry = page.locator(f"[id^=pst-{menu}-sidebar] a", has_text=words).first
        expect(entry).to_be_visible()
        page.keyboard.press("Escape")
    if width == 390:
        page.locator(".bd-header-article .primary-toggle").click()
        page.get_by_role("link", name="4. Plot accuracy curves").first.click()
        expect(page.locator("h1").first).to_contain_text("4. ")
        page.wait_for_load_state()


def test_a_solution_opens(site, page):
    opened(page, site, "notebooks/03_train_with_progress_bars.html")
    solution = page.locator("details", has=page.locator("pre")).first
    expect(solution.locator("pre").first).to_be_hidden()
    solution.locator("summary").click()
    expect(solution.locator("pre").first).to_be_visible()


def test_next_and_previous_lead_through_the_notebooks(site, page):
    opened(page, site, "index.html")
    for number in range(1, 8):
        page.locator("a.right-next").click()
        expect(page.locator("h1").first).to_contain_text(f"{number}. ")
        page.wait_for_load_state()  # what is cut short counts as a fault
    page.locator("a.left-prev").click()
    expect(page.locator("h1").first).to_contain_text("6. ")
    page.wait_for_load_state()


def test_code_is_copied_without_its_output(site, page):
    opened(page, site, "notebooks/01_download_mnist.html")
    assert page.locator(".cell_input button.copybtn").count() > 20
    assert page.locator(".cell_output button.copybtn").count() == 0
