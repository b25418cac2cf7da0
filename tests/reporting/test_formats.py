"""Cells and tables as text."""

import csv
import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from dartcli.cli import tables
from dartcli.reporting.formats import (
    FORMATS,
    format_csv,
    format_html,
    format_latex,
    format_markdown,
    text,
)
from dartcli.reporting.page import PageContent, render_page
from dartcli.reporting.table import Marked, Table

TABLE = Table(
    title="Test AUC & more",
    columns=("method", "movielens_100k fm", "n"),
    rows=(
        ("base", Marked(0.81234, best=True), 1234),
        ("a_b|c", Marked(0.5, worse=True, unclear=True), None),
        ("none", Marked(None), 0.25),
    ),
)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "–"),
        (Marked(None, best=True), "–"),
        (True, "yes"),
        (0.25, "0.2500"),
        (12345, "12,345"),
        ("word", "word"),
        (Marked(1.0, 1, signed=True), "+1.0"),
        (Marked(-0.04, 1, signed=True), "+0.0"),
        (Marked(-0.04, 1), "0.0"),
        (Marked(0.5, worse=True), "0.5000*"),
    ],
)
def test_cells_are_formatted_by_kind_and_marks(cell: object, words: str) -> None:
    assert text(cell) == words  # type: ignore[arg-type]


def test_markdown_escapes_and_marks() -> None:
    lines = format_markdown(TABLE).splitlines()
    assert lines[0] == "**Test AUC & more**"
    assert lines[2] == r"| method | movielens\_100k fm | n |"
    assert lines[3] == "| --- | ---: | ---: |"
    assert lines[4] == "| base | **0.8123** | 1,234 |"
    assert lines[5] == r"| a\_b\|c | _0.5000\*_ | – |"
    assert lines[6] == "| none | – | 0.2500 |"


def test_latex_escapes_and_marks() -> None:
    found = format_latex(TABLE)
    assert r"\caption{Test AUC \& more}" in found
    assert r"  base & \textbf{0.8123} & 1,234 \\" in found
    assert r"  a\_b|c & \textcolor{gray}{0.5000$^\ast$} & -- \\" in found
    assert r"\begin{tabular}{lrr}" in found


LEGENDS = {
    "markdown": r" (bold: best; \*: significantly worse than base; italics: not significant)**",
    "latex": " (bold: best; *: significantly worse than base; gray: not significant)}",
    "html": " (bold: best; *: significantly worse than base; gray: not significant)</caption>",
    "report": " (bold: best; *: significantly worse than base; gray: not significant)</span>",
    "terminal": " (bold: best; *: significantly worse than base; dim: not significant)",
    "file": " (*: significantly worse than base) ┏",
}


def show(table: Table, form: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if form in FORMATS:
        return FORMATS[form](table)
    if form == "html":
        return format_html(table)
    if form == "report":
        content = PageContent("title", (), ("Sentence.",), table)
        return render_page(content, [])
    written = io.StringIO()
    console = Console(file=written, force_terminal=form == "terminal", width=120,
                      color_system="standard" if form == "terminal" else None)  # fmt: skip
    monkeypatch.setattr(tables, "stdout", lambda: console)
    tables.show(table)
    return written.getvalue()


@pytest.mark.parametrize("form", LEGENDS)
def test_each_format_explains_the_marks_that_it_shows(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(replace(TABLE, marked=True), form, monkeypatch)
    assert LEGENDS[form] in " ".join(re.sub(r"\x1b\[\d*m", "", shown).split())
    assert "significant" not in show(TABLE, form, monkeypatch)


def test_marks_are_visible_in_html_and_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    html = show(TABLE, "html", monkeypatch)
    assert "<td><b>0.8123</b></td>" in html
    assert '<td><span style="color: gray">0.5000*</span></td>' in html
    words = show(TABLE, "terminal", monkeypatch)
    assert re.search(r"\x1b\[1m *0\.8123", words)
    assert re.search(r"\x1b\[2m *0\.5000\*", words)
    assert "\x1b" not in show(TABLE, "file", monkeypatch)


def test_csv_has_full_precision() -> None:
    rows = list(csv.reader(io.StringIO(format_csv(TABLE))))
    assert rows == [
        ["method", "movielens_100k fm", "n"],
        ["base", "0.81234", "1234"],
        ["a_b|c", "0.5", ""],
        ["none", "", "0.25"],
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows_keeps_its_heads(form: str) -> None:
    assert "method" in FORMATS[form](Table("nothing", ("method",), ()))
