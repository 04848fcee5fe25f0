"""The HTML report in a real browser: nothing overflows, nothing is empty, nothing complains."""

import shutil

import pytest
from reports import full_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

EMPTY = """
() => [...document.querySelectorAll("svg.plot")].filter((plot) => {
    const marks = [...plot.querySelectorAll("path, use")].filter((mark) => {
        const box = mark.getBoundingClientRect();
        return box.width + box.height > 1 && getComputedStyle(mark).stroke !== "none";
    });
    const box = plot.getBoundingClientRect();
    return box.width < 200 || box.height < 50 || marks.length < 8;
}).length
"""

OUTSIDE = """
() => [...document.querySelectorAll("svg.plot text")].filter((text) => {
    const own = text.getBoundingClientRect();
    const plot = text.closest("svg").getBoundingClientRect();
    return own.left < plot.left - 1 || own.right > plot.right + 1;
}).map((text) => text.textContent)
"""


UNTHEMED = """
() => [...document.querySelectorAll("svg.plot text")].filter((text) =>
    getComputedStyle(text).fill === "rgb(0, 0, 0)").map((text) => text.textContent)
"""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    pytest.importorskip("matplotlib")
    from pytest_drlcompress.reporting.html import html

    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(full_report()))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)], ids=["phone", "desktop"])
def test_the_page_in_a_browser(browser, page_file, width, height, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(page_file.as_uri())
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.plot").count() == 16
    assert page.evaluate(EMPTY) == 0
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(UNTHEMED) == []
    # text must differ from its ground in either scheme
    ink, ground = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "background")
    )
    assert (ink.split(")")[0] < ground.split(")")[0]) == (scheme == "light")
    page.locator("summary").first.click()
    assert page.locator("figure table").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
