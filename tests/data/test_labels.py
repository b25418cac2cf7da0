"""Trusted labels: what a file of answers changes, and what it cannot change."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from dartcli.cli import app
from dartcli.data import prepare
from dartcli.data.logs.labels import LabelCounts, load_labels, read_labels
from dartcli.data.logs.schema import LogOptions
from dartcli.data.manifest import Prepared, SplitName, load_manifest, read_encoded
from dartcli.errors import DataError, UsageError
from dartcli.experiments.checks import check_labels

SMALL = {"users": 60, "items": 60, "interactions": 900}


def dart(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def log() -> pl.DataFrame:
    """A hundred distinct pairs; ids are text with leading zeros, and numbers."""
    return pl.DataFrame(
        {
            "user_id": [f"{row % 12:03}" for row in range(100)],
            "item_id": [100 + (row // 12 if row < 60 else row) for row in range(100)],
            "dwell": [None if row % 3 == 0 else float(row) for row in range(100)],
        }
    )


@pytest.fixture
def options(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogOptions:
    monkeypatch.chdir(tmp_path)
    log().write_parquet("log.parquet")
    return LogOptions(inputs=("log.parquet",), user="user_id", item="item_id")


def truth(prepared: Prepared) -> dict[tuple[str, str], bool | None]:
    """Return raw (user, item), as text -> noisy."""
    home = prepared.folder.parent.parent
    manifest = load_manifest(home)
    assert manifest is not None
    table, _ = read_encoded(home, manifest)
    raw = [prepared.ids(name)["raw"].cast(pl.String).to_list() for name in ("user", "item")]
    rows = table.filter(pl.col("label") > 0).select("user", "item", "noisy").iter_rows()
    return {(raw[0][user], raw[1][item]): noisy for user, item, noisy in rows}


def test_rows_where_the_condition_is_null_are_unknown(options: LogOptions) -> None:
    prepared = prepare.preprocess_log("shop", options.model_copy(update={"noisy_if": "dwell < 20"}))
    expected = {
        (user, str(item)): None if dwell is None else dwell < 20
        for user, item, dwell in log().iter_rows()
    }
    assert truth(prepared) == expected
    assert prepared.manifest.counts.unknown == 34
    tables = [prepared.split(name) for name in ("train", "valid", "test")]
    positives = pl.concat(tables).filter(pl.col("label") > 0)
    assert positives["noisy"].null_count() == 34


@pytest.mark.parametrize("noisy_if", [None, "dwell < 20"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet"])
def test_labels_replace_the_truth_of_labeled_interactions_only(
    options: LogOptions, suffix: str, noisy_if: str | None
) -> None:
    options = options.model_copy(update={"noisy_if": noisy_if})
    before = truth(prepare.preprocess_log("shop", options))
    answers = pl.DataFrame(
        {
            "comment": ["a, b", "", None, ""],
            "wanted": [1, 0, None, 0],
            "item": [100, 104, 101, 102],
            "user": ["000", "011", "000", "003"],
        }
    )
    path = Path(f"answers.{suffix}")
    if suffix == "parquet":
        answers.write_parquet(path)
    else:
        text = answers.write_csv(separator="\t" if suffix == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if suffix == "csv.gz" else text)
    prepared = prepare.preprocess("shop", labels=[str(path)])
    changed = {("000", "100"): False, ("011", "104"): True, ("003", "102"): True}
    assert truth(prepared) == before | changed
    (counts,) = prepared.manifest.labels.values()
    assert counts == LabelCounts(rows=4, answered=3, empty=1, contradicting=0, unknown=0)
    assert prepared.manifest.warnings == ()


@pytest.mark.parametrize("text", ["1", "1.0", "true", "TRUE ", " 1"])
def test_answers_are_read_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"\ufeffuser;item;wanted\r\n7;8;{text}\r\n\r\n9;8;\r\n".encode())
    assert read_labels(path).rows() == [(2, "7", "8", True), (4, "9", "8", None)]


def test_whole_numbers_written_as_floats_are_ids(options: LogOptions) -> None:
    Path("a.csv").write_text("user,item,wanted\n000,100.0,0\n")
    prepare.preprocess_log("shop", options)
    assert truth(prepare.preprocess("shop", labels=["a.csv"]))["000", "100"] is True


def test_contradictions_and_unknown_pairs_are_reported_by_line(options: LogOptions) -> None:
    lines = [
        "user,item,title,wanted",
        '000,100,"two\nlines",1',  # lines 2 and 3
        "000,100,x,0",
        "001,100,x,1",
        "001,100,x,1",
        *(f"nobody-{row},100,x,1" for row in range(5)),  # lines 7 to 11
        "1,100,x,1",  # text ids are compared as text
        "002,100,x,0",
    ]
    Path("a.csv").write_text("\n".join(lines))
    prepare.preprocess_log("shop", options)
    prepared = prepare.preprocess("shop", labels=["a.csv"])
    (counts,) = prepared.manifest.labels.values()
    assert counts == LabelCounts(rows=11, answered=2, empty=0, contradicting=2, unknown=6)
    assert prepared.manifest.warnings == (
        "a.csv has different answers about the same interaction, which are ignored: lines 3, 4.",
        "a.csv has answers about a user and item without an interaction, which are ignored: "
        "lines 7, 8, 9, and 3 more.",
    )
    known = {pair: noisy for pair, noisy in truth(prepared).items() if noisy is not None}
    assert known == {("001", "100"): False, ("002", "100"): True}


def test_an_impression_cannot_be_labeled(options: LogOptions) -> None:
    shown = log().with_columns(clicked=(pl.int_range(pl.len()) % 2 == 0))
    shown.write_parquet("log.parquet")
    Path("a.csv").write_text("user,item,wanted\n001,100,0\n002,100,0\n")
    prepared = prepare.preprocess_log(
        "shop", options.model_copy(update={"label": "clicked", "labels": ("a.csv",)})
    )
    (counts,) = prepared.manifest.labels.values()
    assert (counts.answered, counts.unknown) == (1, 1)
    assert prepared.manifest.counts.false_positives == 1


def test_labels_are_remembered_and_the_last_file_counts(options: LogOptions) -> None:
    prepare.preprocess_log("shop", options)
    Path("a.csv").write_text("user,item,wanted\n000,100,0\n001,100,0\n")
    Path("b.csv").write_text("user,item,wanted\n000,100,1\n")
    prepare.preprocess("shop", labels=["a.csv"])
    prepare.preprocess("shop", labels=["b.csv"])
    both = prepare.preprocess("shop")
    assert not both.fresh
    assert truth(both)["000", "100"] is False
    assert truth(both)["001", "100"] is True
    prepare.preprocess("shop", labels=["a.csv"])  # again: now it is the last
    assert truth(prepare.preprocess("shop"))["000", "100"] is True
    # describing the log again keeps them
    assert truth(prepare.preprocess_log("shop", options))["000", "100"] is True
    without = prepare.preprocess("shop", options={"labels": []})
    assert without.manifest.counts.unknown == 100


def test_changed_labels_are_prepared_again(options: LogOptions) -> None:
    prepare.preprocess_log("shop", options)
    Path("a.csv").write_text("user,item,wanted\n000,100,0\n")
    first = prepare.preprocess("shop", labels=["a.csv"])
    Path("a.csv").write_text("user,item,wanted\n000,100,1\n")
    second = prepare.preprocess("shop")
    assert second.folder != first.folder
    assert truth(second)["000", "100"] is False
    assert first.manifest.sources != second.manifest.sources


def test_labels_change_only_the_truth_and_who_is_set_aside(options: LogOptions) -> None:
    before = prepare.preprocess_log("shop", options)
    Path("a.csv").write_text("user,item,wanted\n000,100,0\n001,100,1\n")
    after = prepare.preprocess("shop", labels=["a.csv"])
    columns = ["user", "item", "label"]
    names: tuple[SplitName, ...] = ("train", "valid", "test")
    for name in names:
        assert len(before.split(name)) == len(after.split(name))
    positives = [
        pl.concat(part.split(name) for name in names).filter(pl.col("label") > 0)
        for part in (before, after)
    ]
    assert (
        positives[0]
        .select(columns)
        .sort(columns)
        .equals(positives[1].select(columns).sort(columns))
    )


def test_a_built_in_dataset_takes_labels(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = truth(prepare.preprocess("synthetic", options=SMALL))
    pair, noisy = next(iter(before.items()))
    Path("a.csv").write_text(f"user,item,wanted\n{pair[0]},{pair[1]},{int(noisy or 0)}\n")
    prepared = prepare.preprocess("synthetic", options=SMALL, labels=["a.csv"])
    assert truth(prepared) == before | {pair: not noisy}
    assert load_labels("synthetic") == (str(tmp_path / "a.csv"),)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("user,item,wanted\n000,100,maybe\n", r"line 2, column `wanted`: found 'maybe'"),
        ("user,item,wanted\n000,100,2\n001,100,2\n", r"lines 2, 3, column `wanted`: found '2'"),
        ("user,item,wanted\n000,100,\n", r"has no answers: .* in all 1 rows"),
        ("user,item,wanted\n", r"has no answers"),
        ("", r"no column `user` in .*; it has none"),
        ("user,item\n000,100\n", r"no column `wanted` in .*; it has user, item"),
        ("user,item,title,wanted\n000,100,a, b,1\n", r"line 2: not as many cells as in the header"),
        ("user,item,wanted\nx,1,1\ny,1,0\n", r"labels no interaction: .* lines 2, 3 have none"),
        ("user,item,wanted\n\xff,1,1\n", r"is not UTF-8 text"),
    ],
)
def test_unusable_labels_are_refused_and_not_remembered(
    options: LogOptions, text: str, error: str
) -> None:
    prepare.preprocess_log("shop", options)
    Path("a.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=error):
        prepare.preprocess("shop", labels=["a.csv"])
    assert load_labels("shop") == ()
    assert prepare.preprocess("shop").manifest.labels == {}


def test_a_missing_file_is_named(options: LogOptions) -> None:
    prepare.preprocess_log("shop", options)
    Path("a.csv").write_text("user,item,wanted\n000,100,0\n")
    prepare.preprocess("shop", labels=["a.csv"])
    assert [one.state for one in check_labels()] == ["ok"]
    Path("a.csv").unlink()
    with pytest.raises(DataError, match=r"a\.csv: no such file. Restore it, or run `dart label"):
        prepare.preprocess("shop")
    assert [(one.name, one.state) for one in check_labels()] == [("shop", "error")]


def test_the_command_line_takes_labels(options: LogOptions) -> None:
    Path("a.csv").write_text("user,item,wanted\n000,100,0\n001,100,1\nx,1,1\n")
    columns = ["--input", "log.parquet", "--user", "user_id", "--item", "item_id"]
    described = dart("preprocess", *columns, "--labels", "a.csv", "--describe")
    assert described.exit_code == 0, described.stderr
    text = " ".join(described.stdout.split())
    assert "labels of a.csv: 2 interactions." in text
    assert "known false positives: 1 of the 2 interactions with ground truth" in text
    assert "a.csv has answers about a user and item without an interaction" in text
    assert "`clean`" not in text
    result = dart("preprocess", *columns, "--name", "shop", "--labels", "a.csv")
    assert result.exit_code == 0, result.stderr
    assert "line 4" in result.stderr
    row = next(line for line in result.stdout.splitlines() if "0.5" in line)
    assert row.replace("│", " ").split() == ["12", "45", "1", "1", "98", "0.5000"]
    assert prepare.preprocess("shop").manifest.counts.unknown == 98


def test_labels_of_an_unknown_dataset_are_a_usage_error(home: Path) -> None:
    with pytest.raises(UsageError):
        prepare.preprocess("nowhere", labels=["a.csv"])
