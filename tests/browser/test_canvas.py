"""The canvas of notebook 06, drawn on with a mouse in JupyterLab, and with a finger in any page."""

import json
import os
import re
import statistics
import subprocess
import sys
import time

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from book import PROJECT
from nbformat.v4 import new_code_cell
from playwright.sync_api import expect

from mnist_helpers import write_sample
from mnist_helpers.tutorial.canvas import FOLDER, recorded_strokes
from tests.browser.conftest import watched_page
from tests.browser.test_pages import AXE_OPTIONS

pytestmark = pytest.mark.xdist_group("lab")  # one JupyterLab at a time: two are slow to answer
NOTEBOOK = PROJECT / "notebooks" / "06_recognise_your_own_digit.ipynb"
STYLES = recorded_strokes()
# Among them are a 0 with a slash, a 1 with flag and foot, and a 7 with a bar.
MIXED = ["European", "European", "plain", "hasty", "European"]
MIXED += ["plain", "hasty", "European", "hasty", "plain"]
LATEST = 250  # milliseconds until half of the answers are there, on a machine that may be busy
SETTINGS = {
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},  # as the browser's
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}
STOPWATCH = """root => {
    let drawn = 0;
    window.waits = [];
    const note = event => { if (event.buttons) drawn = performance.now(); };
    root.querySelector(".paper").addEventListener("pointermove", note);
    new MutationObserver(() => {  // a click on Clear is answered as well, but isn't a stroke
        if (drawn && root.ariaBusy === "false") waits.push(performance.now() - drawn);
        if (root.ariaBusy === "false") drawn = 0;
    }).observe(root, {attributeFilter: ["aria-busy"]});
}"""
PIXELS = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab on a copy of the notebook; return its address and the cells to run."""
    home = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
        else:  # JupyterLab asks for its pictures in the wrong place first
            cell.source = re.sub(r"!\[.*?]\(.*?\)", "", cell.source)
    count = 1 + [cell.id for cell in notebook.cells].index("canvas")
    notebook.cells.insert(count, new_code_cell("canvas.examples.labels.tolist()"))
    nbformat.write(notebook, home / NOTEBOOK.name)
    (home / "overrides.json").write_text(json.dumps(SETTINGS))
    write_sample(home / "data")  # so that nobody asks for MNIST
    folders = {"JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_RUNTIME_DIR": home / "runtime"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.port=0", "--IdentityProvider.token="]  # any free port, no password
    with (home / "log").open("wb") as log, subprocess.Popen(
        [*command, f"--LabApp.app_settings_dir={home}"], cwd=home, stdout=log, stderr=log,
        env=os.environ | {"MNIST_HOME": str(home), "MNIST_PROFILE": "quick"}
        | {name: str(folder) for name, folder in folders.items()},
    ) as server:  # fmt: skip
        try:
            for _ in range(600):
                started = list(folders["JUPYTER_RUNTIME_DIR"].glob("jpserver-*.json"))
                assert server.poll() is None, (home / "log").read_text()
                if started:
                    break
                time.sleep(0.1)
            yield json.loads(started[0].read_text())["url"], count
        finally:
            server.terminate()


@pytest.fixture(scope="module", params=[("light", 1280), ("dark", 900)], ids=["light", "dark"])
def page(request, lab, chromium):
    """Open the notebook in JupyterLab and run its cells, as far as the canvas."""
    (scheme, width), (url, count) = request.param, lab
    own = (url, url.replace("http", "ws"), "data:", "blob:")
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with watched_page(chromium, own, **options) as page:
        page.goto(f"{url}doc/tree/{NOTEBOOK.name}?reset")
        # JupyterLab drops what it is asked before the kernel is there.
        expect(page.get_by_role("button", name="| Idle")).to_be_visible(timeout=60_000)
        page.locator(".jp-MarkdownCell").first.click()
        for _ in range(count):
            page.keyboard.press("Shift+Enter")
        expect(page.locator(".mnist-canvas")).to_be_visible(timeout=60_000)
        yield page


def draw(page, strokes):
    """Draw with the mouse, and wait for the answer."""
    paper = page.locator(".mnist-canvas .paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in [*places[1::2], places[-1]]:
            page.mouse.move(*place)
        page.mouse.up()
    answered(page)


def answered(page):
    expect(page.locator(".mnist-canvas")).to_have_attribute("aria-busy", "false")


def test_it_reads_ten_digits_drawn_with_the_mouse(page):
    page.locator(".mnist-canvas").evaluate(STOPWATCH)
    says, right = page.locator(".says"), []
    for digit, style in enumerate(MIXED):
        draw(page, STYLES[style][digit])
        right.append(re.match(rf"That is an? {digit} ", says.inner_text()) is not None)
        assert page.locator(".bars").get_attribute("aria-label").count("%") == 10
        page.get_by_role("button", name="Clear").click()
        answered(page)
        expect(says).to_have_text("Draw a digit from 0 to 9.")
    assert sum(right) >= 9, right
    assert statistics.median(page.evaluate("waits")) < LATEST


def test_undo_clear_and_keep(page):
    paper, says = page.locator(".paper"), page.locator(".says")
    bar, rest = STYLES["European"][7][-1:], STYLES["European"][7][:-1]
    empty, already = paper.evaluate(PIXELS), int(page.locator(".kept").inner_text()[6:])
    draw(page, rest)
    before = paper.evaluate(PIXELS)
    draw(page, bar)
    assert paper.evaluate(PIXELS) not in (before, empty)
    page.keyboard.press("Control+z")
    assert paper.evaluate(PIXELS) == before
    page.get_by_role("button", name="Undo").click()
    assert paper.evaluate(PIXELS) == empty
    draw(page, rest)
    drawn = paper.evaluate(PIXELS)
    page.get_by_role("button", name="Clear").click()
    assert paper.evaluate(PIXELS) == empty
    page.keyboard.press("Control+z")
    assert paper.evaluate(PIXELS) == drawn
    page.get_by_role("button", name="Clear").click()
    page.keyboard.press("5")  # nothing to keep
    draw(page, rest)
    page.keyboard.press("7")
    expect(page.locator(".kept")).to_have_text(f"kept: {already + 1}")
    assert paper.evaluate(PIXELS) == empty
    draw(page, STYLES["hasty"][4])
    page.get_by_role("button", name="Keep it as 4").click()
    expect(page.locator(".kept")).to_have_text(f"kept: {already + 2}")
    page.get_by_role("button", name="Undo").click()  # it was no 4: the drawing is back
    expect(page.locator(".kept")).to_have_text(f"kept: {already + 1}")
    assert paper.evaluate(PIXELS) != empty
    page.get_by_role("button", name="Keep it as 9").click()
    expect(page.locator(".kept")).to_have_text(f"kept: {already + 2}")
    draw(page, [[[0.1, 0.1], [0.9, 0.9]], [[0.9, 0.1], [0.1, 0.9]]])
    expect(says).to_contain_text("That may not be a digit.")
    # What this kernel kept on the page before is still there.
    after = page.locator(".jp-CodeCell", has_text="canvas.examples.labels")
    after.locator(".jp-InputPrompt").click()
    page.keyboard.press("Shift+Enter")
    expect(after.locator(".jp-OutputArea-output")).to_have_text(
        re.compile(rf"^\[(\d, ){{{already}}}7, 9\]$")
    )


def test_it_draws_one_itself_and_everybody_can_use_it(page):
    page.get_by_role("button", name="Show me one").click()
    expect(page.locator(".says")).to_contain_text("That is a 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    found = Axe().run(page, ".mnist-canvas", AXE_OPTIONS).response["violations"]
    assert [(fault["id"], node["html"]) for fault in found for node in fault["nodes"]] == []
    page.locator(".paper").focus()
    for name in ("Undo", "Clear", "Show me one", "Keep it as 0"):
        page.keyboard.press("Tab")
        button = page.get_by_role("button", name=name)
        expect(button).to_be_focused()
        assert button.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"


def test_a_finger_draws_in_a_page_without_jupyter(chromium):
    script = (FOLDER / "canvas.js").read_text("utf-8")
    options = {"has_touch": True, "viewport": {"width": 390, "height": 700}}
    with watched_page(chromium, ("about:",), **options) as page:
        page.set_content("<div id='root'></div><div style='height: 2000px'></div>")
        page.add_style_tag(path=FOLDER / "canvas.css")
        page.add_script_tag(
            type="module",
            content=f"""{script}
            window.changes = 0;
            const {{part}} = build(document.getElementById("root"));
            window.surface = drawingSurface(part("paper"), () => changes += 1);""",
        )
        box = page.locator(".paper").bounding_box()
        touch = page.context.new_cdp_session(page)
        for kind, at in [("Start", 0.2), ("Move", 0.4), ("Move", 0.8), ("End", None)]:
            where = [{"x": box["x"] + 100, "y": box["y"] + at * box["height"]}] if at else []
            touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": where})
        ((first, *_, last),) = page.evaluate("surface.strokes()")
        assert [first[1], last[1]] == pytest.approx([0.2, 0.8], abs=0.01)
        assert page.evaluate("scrollY") == 0 and page.evaluate("changes") >= 2
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.evaluate("seven => surface.replay(seven, 1)", STYLES["European"][7])
        expect(page.locator(".paper")).to_be_visible()
        page.wait_for_function("seven => surface.strokes().flat().length === seven.flat().length",
                               arg=STYLES["European"][7])  # fmt: skip
        assert page.evaluate("surface.strokes()") == STYLES["European"][7]
