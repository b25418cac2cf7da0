"""The page itself: escaping, ids, order, the same bytes."""

import re
from html.parser import HTMLParser

import pytest

from dartcli.reporting.analysis import AnalysisResult
from dartcli.reporting.figures import new_figure
from dartcli.reporting.page import PageContent, Source, _order, render_page
from dartcli.reporting.table import Cell, Table

NASTY = "<script>alert('x')</script>&\"quoted\""


def figure(title: str) -> AnalysisResult:
    with new_figure(4, 3) as (drawing, axes):
        axes[0].plot([0, 1], [1, 0], marker="o", label=title)
        axes[0].set_title(title)
        axes[0].legend()
    return AnalysisResult(
        name=title,
        title=title,
        sentences=(f"{title} says so.",),
        tables=(Table(title, ("item", "share", title), (("a", 0.25, 10), ("b", None, 9))),),
        numbers={},
        figures={"first": drawing, "second": drawing},
    )


def context(words: str = "plain") -> PageContent:
    return PageContent(
        title=words,
        subtitle=(words,),
        summary=(words, words),
        results=Table(words, ("run", words), ((words, "0.5000 ± 0.0100"), ("b", None))),
        seeds=Table(words, ("run", "seed"), ((words, "0"),)),
        setup=(Table(words, (words,), ((words,),)),),
        facts={words: words},
        sources=(Source(words, words, words, words, partial=True),),
        questions={words: words},
        absent={words: words},
        commands=(f"dart report {words}",),
        documents={words: words},
        made_on=words,
    )


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read(text: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader.tags


def test_markup_in_any_name_comes_out_as_text() -> None:
    text = render_page(context(NASTY), [figure(NASTY)])
    assert [tag for tag, _ in read(text)].count("script") == 1
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;") > 20
    labels = [given["aria-label"] for tag, given in read(text) if tag == "svg"]
    assert len(labels) == 2
    assert all(NASTY in (label or "") for label in labels)


def test_figures_in_one_page_share_no_id_and_find_their_own_parts() -> None:
    tags = read(render_page(context(), [figure("one"), figure("one")]))
    ids = [given["id"] for _, given in tags if "id" in given]
    assert len(ids) == len(set(ids))
    used = [
        match
        for _, given in tags
        for name, value in given.items()
        if value
        for match in re.findall(r"url\(#([^)]+)\)", value)
        + ([value[1:]] if name.endswith("href") and value.startswith("#") else [])
    ]
    assert len(used) > 20
    assert set(used) <= set(ids)


def test_figures_have_a_role_and_words_and_keep_their_fonts() -> None:
    text = render_page(context(), [figure("one")])
    pictures = [given for tag, given in read(text) if tag == "svg"]
    assert {given["role"] for given in pictures} == {"img"}
    assert pictures[0]["aria-label"] == "one: first. one says so."
    assert "'DejaVu Sans', Verdana, sans-serif" in text
    assert "<text" in text
    assert "<metadata" not in text
    assert text.count("<style") == 1


def test_nothing_is_loaded_from_anywhere() -> None:
    text = render_page(context(), [figure("one")])
    assert "http" not in text.replace('http-equiv="', "")
    tags = read(text)
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in tags}
    assert not [given for _, given in tags if "src" in given]


def test_the_same_reports_give_the_same_page() -> None:
    assert render_page(context(), [figure("one")]) == render_page(context(), [figure("one")])


@pytest.mark.parametrize(
    ("cell", "order"),
    [(3, "3.0"), (0.25, "0.25"), (None, ""), ("0.7 ± 0.1", "0.7"), ("12", "12"), ("0-2", "")],
)
def test_a_cell_is_sorted_by_its_number(cell: Cell, order: str) -> None:
    assert _order(cell) == order


def test_a_page_without_analyses_is_a_page() -> None:
    plain = PageContent("title", (), ("Sentence.",), Table("t", ("a",), ((1,),)))
    text = render_page(plain, [])
    assert "Sentence." in text
    assert "Not included" not in text
    assert "Repeat it" not in text
