"""The page in a real browser: figures, sorting, widths, contrast, printing, no requests."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

from dartcli import catalog
from dartcli.cli import app
from dartcli.experiments.run_index import find_run
from dartcli.reporting.build import Page, write_report

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (found := shutil.which(name))
    ),
    None,
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the path"),
]

TINY = [
    "train", "synthetic", "--epochs", "8", "--batch-size", "256", "--seeds", "0-2",
    "--set", "dataset.users=80", "--set", "dataset.items=90", "--set", "dataset.interactions=1500",
]  # fmt: skip

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (color, under) => {
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((c) => {
      const s = c / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    const above = [];
    for (let e = element; e; e = e.parentElement) {
      above.unshift(getComputedStyle(e).backgroundColor);
    }
    return above.reduce((under, color) => `rgb(${rgb(color, under).join(",")})`, "rgb(0,255,0)");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, style")) continue;
    const under = background(element);
    const text = rgb(getComputedStyle(element).color, under);
    const [dark, light] = [luminance(text), luminance(rgb(under, under))].sort((a, b) => a - b);
    found.push([(light + 0.05) / (dark + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""


class Opened:
    """A page in a browser, with its console messages and requests."""

    def __init__(self, browser: Any, path: Path, scheme: str, width: int) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Page:
    home = tmp_path_factory.mktemp("browser") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        for words in (
            ["--name", "dart", "--t-m", "4", "--tau-m", "0.2"],
            ["--name", "base", "--strategy", "base"],
            ["--name", "disc", "--strategy", "dart-disc", "--t-m", "4", "--tau-m", "0.1"],
        ):
            done = CliRunner().invoke(app, [*TINY, *words])
            assert done.exit_code == 0, done.stderr
        return write_report(["dart", "base", "disc"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1200, 390])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def opened(browser: Any, report: Page, scheme: str, width: int) -> Iterator[Opened]:
    found = Opened(browser, report.path, scheme, width)
    yield found
    found.context.close()
    assert found.messages == []
    assert found.requests == [report.path.as_uri()]


@pytest.fixture
def page(browser: Any, report: Page) -> Iterator[Any]:
    found = Opened(browser, report.path, "light", 1200)
    yield found.page
    found.context.close()
    assert found.messages == []
    assert found.requests == [report.path.as_uri()]


def test_every_figure_is_drawn_and_the_page_fits_the_window(
    opened: Opened, report: Page, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DART_HOME", str(report.path.parent.parent))
    chosen = {"memorization": ["dart", "base", "disc"], "precision-recall": ["dart", "disc"]}
    expected = sum(
        len(catalog.load("analyses", name).answer([find_run(run) for run in names]).figures)
        for name, names in chosen.items()
    )
    assert set(chosen) <= set(report.analyses)
    boxes = [figure.bounding_box() for figure in opened.page.locator("figure img").all()]
    assert len(boxes) >= expected
    assert all(box["width"] > 200 and box["height"] > 100 for box in boxes)
    loaded = opened.page.locator("figure img").evaluate_all(
        "images => images.every(image => image.complete && image.naturalWidth > 100)"
    )
    assert loaded
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_text_contrasts_with_its_background(opened: Opened, scheme: str) -> None:
    opened.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    found = opened.page.evaluate(CONTRAST)
    assert len(found) > 100
    assert [(ratio, text) for ratio, text in found if ratio < 4.5] == []
    ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = np.mean([int(number) for number in re.findall(r"\d+", ground)[:3]])
    assert lightness < 60 if scheme == "dark" else lightness > 240


def test_tables_that_scroll_say_so_and_a_wide_page_is_used(opened: Opened, width: int) -> None:
    boxes = opened.page.locator("div.scroll").evaluate_all(
        """boxes => boxes.filter(box => box.clientWidth).map(box => [
          box.scrollWidth > box.clientWidth + 1,
          getComputedStyle(box.nextElementSibling).display !== "none"
            && box.nextElementSibling.className === "more",
        ])"""
    )
    assert boxes
    assert all(overflows == says_so for overflows, says_so in boxes)
    assert any(overflows for overflows, _ in boxes) or width > 400
    content = opened.page.locator("main").bounding_box()["width"]
    assert content >= min(width - 48, 1100)


def test_figures_contrast_with_their_background(
    browser: Any, report: Page, scheme: str, tmp_path: Path
) -> None:
    opened = Opened(browser, report.path, scheme, 1200)
    for number, figure in enumerate(opened.page.locator("figure img").all()):
        figure.screenshot(path=tmp_path / f"{number}.png")
        pixels = matplotlib.image.imread(tmp_path / f"{number}.png")[..., :3].reshape(-1, 3)
        linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
        luminance = linear @ [0.2126, 0.7152, 0.0722]
        ground = float(np.median(luminance))
        # the strongest ink: dark text on a light page, light text on a dark one
        ink = float(np.quantile(luminance, 0.999 if scheme == "dark" else 0.001))
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 7
        assert (ground < 0.05) == (scheme == "dark")
    opened.context.close()


def column(page: Any, number: int) -> list[str]:
    cells = page.locator(f"#results > div table tbody td:nth-child({number})")
    return [str(text).split()[0] for text in cells.all_inner_texts()]


def test_a_click_on_a_head_sorts_by_number_and_a_second_one_reverses(page: Any) -> None:
    heads = page.locator("#results > div table thead th")
    names = [text.lower() for text in heads.all_inner_texts()]
    place = next(number for number, name in enumerate(names, 1) if name.startswith("test auc"))
    head = heads.nth(place - 1)
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    ascending = [float(value) for value in column(page, place)]
    assert ascending == sorted(ascending)
    assert len(set(ascending)) > 1
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert [float(value) for value in column(page, place)] == ascending[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    heads.nth(0).locator("button").click()
    assert column(page, 1) == ["base", "dart", "disc"]
    assert head.get_attribute("aria-sort") == "none"


def test_missing_values_stay_last_and_numbers_do_not_sort_as_text(page: Any) -> None:
    page.evaluate(
        """() => {
          const rows = [...document.querySelector("#results > div table tbody").rows];
          ["100.5", "", "9.5"].forEach((value, row) => {
            rows[row].cells[3].dataset.value = value;
            rows[row].cells[3].textContent = value || "–";
          });
        }"""
    )
    button = page.locator("#results > div table thead th button").nth(3)
    button.click()
    assert column(page, 4) == ["9.5", "100.5", "–"]
    button.click()
    assert column(page, 4) == ["100.5", "9.5", "–"]


def test_the_keyboard_sorts_tables(page: Any) -> None:
    page.locator("#results > div table thead th button").first.focus()
    page.keyboard.press("Enter")
    first = page.locator("#results > div table thead th").first
    assert first.get_attribute("aria-sort") == "ascending"


def test_printing_unfolds_everything(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.pdf"
    page.pdf(path=path, format="A4")
    assert path.read_bytes().startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
