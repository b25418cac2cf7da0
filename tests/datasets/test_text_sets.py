"""Adressa, Book-Crossing and MovieLens-1M: their text formats, and the counts of the real files."""

from pathlib import Path

import pytest

from dartcli import catalog
from dartcli.data import prepare
from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.errors import DataError


def read(name: str, folder: Path, **options: object) -> object:
    dataset = catalog.load("datasets", name)
    return dataset.read(folder, dataset.options(**options)).collect()


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode("latin-1"))
    return folder


def test_adressa_joins_its_parts_and_marks_short_visits(tmp_path: Path) -> None:
    write(tmp_path, "adressa/adressa.train.rating", "1\t10\t1\n2\t10\t0\n")
    write(tmp_path, "adressa/adressa.valid.rating", "3\t11\t0\n")
    table = read("adressa", tmp_path)
    assert table[USER].to_list() == [1, 2, 3]
    assert table[NOISY].to_list() == [False, True, True]
    assert read("adressa", tmp_path, drop_first_row=True)[USER].to_list() == [2, 3]


def test_book_crossing_drops_unrated_books_and_reads_odd_lines(tmp_path: Path) -> None:
    lines = [
        '"User-ID";"ISBN";"Book-Rating"',
        '"8";"000200501x";"5"',
        '"8";"0374157065";"0"',
        '"9";"a "quoted" one";"7"',
        '"9";"with;semicolon";"10"',
        '"10";"Ü-Latin";"6"',
    ]
    write(tmp_path, "book-crossing/BX-Book-Ratings.csv", "\r\n".join(lines) + "\r\n")
    table = read("book-crossing", tmp_path)
    assert table[ITEM].to_list() == ["000200501X", 'A "QUOTED" ONE', "WITH;SEMICOLON", "Ü-LATIN"]
    assert table[RATING].to_list() == [5, 7, 10, 6]
    assert table[NOISY].to_list() == [True, False, False, True]
    assert read("book-crossing", tmp_path, drop_first_row=True)[RATING].to_list() == [7, 10, 6]
    assert read("book-crossing", tmp_path, tp_threshold=6)[NOISY].to_list()[-1] is False


def test_movielens_1m_is_separated_by_two_colons(tmp_path: Path) -> None:
    write(tmp_path, "ml-1m/ratings.dat", "1::1193::5::978300760\n2::661::3::978302109\n")
    table = read("movielens-1m", tmp_path)
    assert table[ITEM].to_list() == [1193, 661]
    assert table[NOISY].to_list() == [False, True]


@pytest.mark.parametrize(
    ("name", "file", "content", "value"),
    [
        ("adressa", "adressa/adressa.valid.rating", "", r"valid\.rating"),
        ("adressa", "adressa/adressa.valid.rating", "1\t2\n", r"line 1: found 2 columns"),
        ("adressa", "adressa/adressa.valid.rating", "1\tx\t1\n", r"line 1, column 2 \(item\)"),
        ("adressa", "adressa/adressa.valid.rating", "1\t2\t7\n", r"row 1, column 3 .*found 7"),
        ("book-crossing", "book-crossing/BX-Book-Ratings.csv", "", "line 1: found nothing"),
        ("book-crossing", "book-crossing/BX-Book-Ratings.csv", '"8";"1";"5"\n', r"line 1: found "),
        ("book-crossing", "book-crossing/BX-Book-Ratings.csv",
         '"User-ID";"ISBN";"Book-Rating"\n"8";"1";"5"\n"8";"1"\n', r"line 3: found '\"8\";\"1\"'"),
        ("book-crossing", "book-crossing/BX-Book-Ratings.csv",
         '"User-ID";"ISBN";"Book-Rating"\n"8";"1";"11"\n', "line 2: found"),
        ("movielens-1m", "ml-1m/ratings.dat", "1::2::3\n", r"found 3 columns separated by '::'"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_an_error_that_names_line_and_value(
    tmp_path: Path, name: str, file: str, content: str, value: str
) -> None:
    write(tmp_path, file, content)
    with pytest.raises(DataError, match=value):
        read(name, tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "users", "items", "true", "false"),
    [
        ("adressa", 34_229, 1_224, 17_492, 35_770),
        ("book-crossing", 61_032, 117_766, 263_188, 79_786),
    ],
)
def test_the_real_parts_have_the_known_counts_and_are_partial(
    mirrored_home: Path, name: str, users: int, items: int, true: int, false: int
) -> None:
    manifest = prepare.preprocess(name).manifest
    counts = manifest.counts
    assert (counts.users, counts.items) == (users, items)
    assert (counts.true_positives, counts.false_positives) == (true, false)
    assert manifest.complete is False
    assert f"{name} is partial" in manifest.warnings[0]
    assert manifest.duplicates_dropped == 0
    assert mirrored_home.is_dir()
