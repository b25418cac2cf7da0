"""The page: escaping, images, sort keys, and reproducible bytes."""

import base64
from html.parser import HTMLParser

import pytest

from dartcli.reporting.analysis import AnalysisResult
from dartcli.reporting.figures import new_figure
from dartcli.reporting.page import PageContent, Source, _sort_key, render_page
from dartcli.reporting.table import Cell, Table

NASTY = "<script>alert('x')</script>&\"quoted\""


def make_result(title: str) -> AnalysisResult:
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


def make_content(words: str = "plain") -> PageContent:
    return PageContent(
        title=words,
        subtitle=(words,),
        summary=(words, words),
        metrics=Table(words, ("run", words), ((words, "0.5000 ± 0.0100"), ("b", None))),
        seed_metrics=Table(words, ("run", "seed"), ((words, "0"),)),
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


def test_markup_in_any_name_is_escaped() -> None:
    text = render_page(make_content(NASTY), [make_result(NASTY)])
    tags = read(text)
    assert [tag for tag, _ in tags].count("script") == 1
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;") > 20
    alternatives = [given["alt"] for tag, given in tags if tag == "img"]
    assert len(alternatives) == 2
    assert all(NASTY in (alternative or "") for alternative in alternatives)


def test_figures_are_embedded_images_with_a_text_alternative_and_a_size() -> None:
    tags = read(render_page(make_content(), [make_result("one")]))
    first, second = (given for tag, given in tags if tag == "img")
    assert first["alt"] == "one: first. one says so."
    assert second["alt"] == "one: second. one says so."
    for given in (first, second):
        assert (given["width"], given["height"]) == ("432", "324")
        head, _, encoded = (given["src"] or "").partition(",")
        assert head == "data:image/svg+xml;base64"
        drawing = base64.b64decode(encoded).decode()
        assert "'DejaVu Sans', 'Verdana', sans-serif" in drawing


def test_nothing_is_loaded_from_anywhere() -> None:
    text = render_page(make_content(), [make_result("one")])
    assert "http" not in text.replace('http-equiv="', "")
    tags = read(text)
    assert not {"link", "iframe", "object", "picture"} & {tag for tag, _ in tags}
    sources = [given["src"] or "" for _, given in tags if "src" in given]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    (policy,) = (given["content"] or "" for _, given in tags if "http-equiv" in given)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_equal_results_give_equal_pages() -> None:
    assert render_page(make_content(), [make_result("one")]) == render_page(
        make_content(), [make_result("one")]
    )


@pytest.mark.parametrize(
    ("cell", "order"),
    [(3, "3.0"), (0.25, "0.25"), (None, ""), ("0.7 ± 0.1", "0.7"), ("12", "12"), ("0-2", "")],
)
def test_a_cell_is_sorted_by_its_number(cell: Cell, order: str) -> None:
    assert _sort_key(cell) == order


def test_a_page_without_analyses_has_only_the_summary() -> None:
    plain = PageContent("title", (), ("Sentence.",), Table("t", ("a",), ((1,),)))
    text = render_page(plain, [])
    assert "Sentence." in text
    assert "Not included" not in text
    assert "Reproduce" not in text
