"""A user's own logs: what is read, and a table of what is refused."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from dartcli.cli import app
from dartcli.data import prepare
from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, TIME, USER
from dartcli.data.logs.preview import preview_log
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.registry import log_dataset, register_log
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError
from dartcli.settings import PROTOCOLS

ROWS = 60


def log(rows: int = ROWS) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [f"u{row % 12}" for row in range(rows)],
            "item_id": [100 + row % 17 for row in range(rows)],
            "clicked": [row % 3 != 0 for row in range(rows)],
            "stars": [float(row % 5 + 1) for row in range(rows)],
            "dwell": [float(row) for row in range(rows)],
            "device": ["tv" if row % 2 else "web" for row in range(rows)],
            "price": [row / 7 for row in range(rows)],
            "when": [datetime(2026, 1, 1 + row % 28, tzinfo=UTC) for row in range(rows)],
        }
    )


def dart(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def prepared(path: object, *more: object) -> Result:
    columns = ["--user", "user_id", "--item", "item_id", "--name", "shop"]
    return dart("preprocess", "--input", path, *columns, *more)


def write(path: Path, table: pl.DataFrame) -> Path:
    if path.suffix == ".parquet":
        table.write_parquet(path)
    elif path.suffix in (".gz", ".zst"):
        text = table.write_csv().encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else _zstd(table))
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


def _zstd(table: pl.DataFrame) -> bytes:
    import io

    buffer = io.BytesIO()
    table.lazy().sink_csv(buffer, compression="zstd")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.tsv", "a.csv.gz", "a.csv.zst"])
def test_every_format_is_read_alike(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, log())
    options = LogOptions(
        inputs=(str(path),),
        user="user_id",
        item="item_id",
        label="clicked",
        rating="stars",
        noisy_if="dwell < 10 AND device = 'tv'",
        fields=("device",),
        numeric_fields=("price",),
        time="when",
    )
    table = read_log(options, options.inputs).collect()
    assert table.columns == [USER, ITEM, LABEL, NOISY, RATING, TIME, "device", "bin:price"]
    source = log()
    assert table[USER].to_list() == source["user_id"].to_list()
    assert table[ITEM].to_list() == source["item_id"].to_list()
    assert table[LABEL].to_list() == [int(value) for value in source["clicked"]]
    expected = [d < 10 and k == "tv" for d, k in source.select("dwell", "device").iter_rows()]
    assert table[NOISY].to_list() == expected
    assert table[RATING].to_list() == source["stars"].to_list()


OPTIONS = {"user": "user_id", "item": "item_id"}


def read_ids(path: Path | str, **options: object) -> list[tuple[object, object]]:
    chosen = LogOptions.model_validate({**OPTIONS, **options, "inputs": (str(path),)})
    return read_log(chosen, chosen.inputs).collect().select(USER, ITEM).rows()


IDS = log().select("user_id", "item_id").rows()


@pytest.mark.parametrize(
    ("name", "separator", "options"),
    [
        ("a.txt", "\t", {}),
        ("a.txt", ";", {}),
        ("a.txt", "|", {}),
        ("a.csv", ";", {"separator": ";"}),
        ("a.csv", "\t", {"separator": "\\t"}),
        ("a.log", ",", {"format": "csv"}),
        ("a.log", "\t", {"format": "tsv"}),
    ],
)
def test_text_is_read_with_any_separator(
    tmp_path: Path, name: str, separator: str, options: dict[str, str]
) -> None:
    log().write_csv(tmp_path / name, separator=separator)
    assert read_ids(tmp_path / name, **options) == IDS


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_json_lines_are_read(tmp_path: Path, name: str) -> None:
    log().select("user_id", "item_id").write_ndjson(tmp_path / name)
    form = {"format": "jsonl"} if name == "a.json" else {}
    assert read_ids(tmp_path / name, **form) == IDS


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig", "cp1252"])
def test_text_is_decoded(tmp_path: Path, encoding: str) -> None:
    text = "user_id,item_id\n" + "".join(f"J\xf6rg{n},{n}\n" for n in range(20))
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode(encoding)))
    expected = [(f"J\xf6rg{n}", n) for n in range(20)]
    assert read_ids(tmp_path / "a.csv", encoding=encoding) == expected
    assert read_ids(tmp_path / "a.csv.gz", encoding=encoding) == expected


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    log().select("user_id", "item_id").write_csv(tmp_path / "a.csv", include_header=False)
    found = read_ids(tmp_path / "a.csv", header=False, user="column_1", item="column_2")
    assert found == IDS


def test_a_directory_stands_for_the_logs_below_it(tmp_path: Path) -> None:
    (tmp_path / "day" / "_temporary").mkdir(parents=True)
    write(tmp_path / "a.csv", log()[:30])
    write(tmp_path / "day" / "b.csv", log()[30:])
    for name in ("README.md", "_SUCCESS", ".hidden.csv", "day/_temporary/c.csv"):
        (tmp_path / name).write_text("nothing")
    assert read_ids(tmp_path) == IDS


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_partitions_become_columns(home: Path, tmp_path: Path, suffix: str) -> None:
    for day in (1, 2):
        for shop in ("north", "so%20uth"):
            folder = tmp_path / "log" / f"day=2026-11-0{day}" / f"shop={shop}"
            folder.mkdir(parents=True)
            write(folder / f"part{suffix}", log())
    options = LogOptions.model_validate(
        {**OPTIONS, "inputs": (str(tmp_path / "log"),), "fields": ("shop",), "time": "day"}
    )
    table = read_log(options, options.inputs).collect()
    assert table["shop"].unique().sort().to_list() == ["north", "so uth"]
    assert [str(day) for day in table[TIME].unique().sort()] == ["2026-11-01", "2026-11-02"]
    assert table[TIME].dtype == pl.Date
    done = prepared(tmp_path / "log", "--time", "day", "--split", "temporal", "--field", "shop")
    assert done.exit_code == 0, done.stderr
    assert "features: shop (" in done.stdout
    assert home.is_dir()


def test_whole_numbers_in_a_column_of_floats_are_ids(tmp_path: Path) -> None:
    table = log().with_columns(pl.col("item_id").cast(pl.Float64))
    for name in ("a.parquet", "a.csv"):
        assert read_ids(write(tmp_path / name, table)) == IDS
    gap = table.with_columns(item_id=pl.Series([float("nan"), *[1.0] * (ROWS - 1)]))
    assert read_ids(write(tmp_path / "b.parquet", gap))[0] == ("u0", None)


def test_the_file_of_an_invalid_row_is_named(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log().with_columns(pl.col("clicked").cast(pl.Int64)))
    write(tmp_path / "b.csv", log().with_columns(clicked=pl.Series([1, 7] * 30)))
    done = prepared(tmp_path, "--label", "clicked")
    assert done.exit_code == 1
    assert "shop, row 2 of b.csv, column `clicked`: found 7, expected 0 or 1." in done.stderr
    assert "29 more rows are invalid: row 4 of b.csv (7), row 6 of b.csv (7), ..." in done.stderr
    # a log that cannot be prepared is not registered
    assert dart("train", "shop").exit_code == 2
    assert not (home / "own" / "shop.json").exists()


def test_swapped_columns_are_suspected(home: Path, tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"a": [n % 5 for n in range(1500)], "b": [n * 7 % 300 for n in range(1500)]}
    )
    write(tmp_path / "a.csv", table)
    path = tmp_path / "a.csv"
    done = dart("preprocess", "--input", path, "--user", "a", "--item", "b", "--name", "shop")
    assert "only 5 users, but 300 items" in done.stderr
    assert "exchange `--user` and `--item`" in done.stderr
    done = dart("preprocess", "--input", path, "--user", "b", "--item", "a", "--name", "other")
    assert "exchange" not in done.stderr
    assert home.is_dir()


def test_a_log_becomes_a_dataset_that_can_be_trained_evaluated_and_analyzed(
    home: Path, tmp_path: Path
) -> None:
    table = pl.concat([log().with_columns(pl.col("item_id") + 17 * k) for k in range(8)])
    write(tmp_path / "a.parquet", table[:200])
    write(tmp_path / "b.parquet", table[200:])
    done = prepared(tmp_path / "*.parquet", "--noisy-if", "dwell < 20", "--field", "device",
                    "--numeric-field", "price", "--rating", "stars")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "device (3), price (11)" in done.stdout
    assert "dart train shop" in done.stderr
    assert not prepare.preprocess("shop").fresh
    trained = dart("train", "shop", "--epochs", 2, "--tau-m", 0.3, "--t-m", 1, "--model", "deepfm")
    assert trained.exit_code == 0, trained.stderr
    assert dart("eval", "run_01").exit_code == 0
    assert dart("analyze", "precision-recall", "run_01").exit_code == 0
    repeated = dart("train", "--config", home / "runs/run_01/settings.json", "--name", "again")
    assert repeated.exit_code == 0, repeated.stderr
    weights = "seed_0/model.safetensors"
    assert (home / "runs/run_01" / weights).read_bytes() == (
        home / "runs/again" / weights
    ).read_bytes()


def test_changed_files_are_prepared_again(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", log())
    prepared(path)
    assert not prepare.preprocess("shop").fresh
    write(path, log(90))
    assert prepare.preprocess("shop").fresh
    assert home.is_dir()


def test_describe_shows_a_preview_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", log())
    done = dart("preprocess", "--input", path, "--user", "user_id", "--item", "item_id",
                "--noisy-if", "dwell < 10", "--describe")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "(dwell < 10): 10 of the 60" in " ".join(done.stdout.split())
    assert "(dwell < 10)" in done.stdout
    assert not home.exists()
    found = preview_log(LogOptions(inputs=(str(path),), user="user_id", item="item_id"))
    assert found["counts"] == {"rows": 60, "duplicates": 0, "users": 12, "items": 17}
    assert found["columns"]["device"] == "String"
    assert len(found["rows"]) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"split": "temporal", "time": "when"},
        {"split": "leave-last-out", "time": "when"},
        {"label": "clicked"},
        {"label": "one"},
        {"test_clean": ("a.csv",)},
        {"test_clean": ("a.csv",), "label": "clicked"},
    ],
)
@pytest.mark.parametrize("protocol", ["strict", "reference"])
def test_describe_promises_what_preparation_does(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, protocol: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table = log(150).with_columns(one=pl.lit(1))
    write(tmp_path / "a.csv", pl.concat([table, table[:40]]))
    options = LogOptions(inputs=("a.csv",), user="user_id", item="item_id", **changes)
    found = preview_log(options, PROTOCOLS[protocol])
    register_log("shop", options)
    done = prepare.preprocess("shop", protocol=protocol).manifest
    assert found["counts"]["rows"] == 190
    assert found["counts"]["duplicates"] == done.duplicates_dropped == 40
    assert found["splits"] == done.rows
    plan = " ".join(found["plan"])
    assert "150 of 190 rows remain" in plan
    assert ("no negatives are sampled" in plan) == (not done.sampled_negatives)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"split": "temporal"}, "needs timestamps"),
        ({"item": "nul"}, "row 8( of a.parquet)?, column `nul`"),
    ],
)
def test_describe_fails_where_preparation_fails(
    home: Path, tmp_path: Path, changes: Any, error: str
) -> None:
    nul = pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("item_id"))
    path = write(tmp_path / "a.parquet", log().with_columns(nul=nul))
    columns = {"inputs": (str(path),), "user": "user_id", "item": "item_id"}
    options = LogOptions(**(columns | changes))
    for act in (
        preview_log,
        lambda given: (register_log("shop", given), prepare.preprocess("shop")),
    ):
        with pytest.raises(DataError, match=error):
            act(options)


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("dwell < 0", "none of the 60 interactions with ground truth are false positives"),
        ("dwell >= 0", "all of the 60 interactions with ground truth are false positives"),
        ("dwell < 10", "known false positives (dwell < 10): 10 of the 60 interactions"),
        ("nullif(dwell, 5) < 10", "is null: 1 of the 60 interactions"),
    ],
)
def test_describe_says_if_a_condition_marks_nothing_or_everything(
    home: Path, tmp_path: Path, condition: str, sentence: str
) -> None:
    path = write(tmp_path / "a.csv", log())
    options = LogOptions(inputs=(str(path),), user="user_id", item="item_id", noisy_if=condition)
    assert any(sentence in line for line in preview_log(options)["plan"])


def test_describe_without_columns_lists_and_proposes_them(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", log())
    done = dart("preprocess", "--input", path, "--describe")
    assert done.exit_code == 0, done.stderr
    for name in log().columns:
        assert name in done.stdout
    assert "--user user_id --item item_id --describe" in done.stderr
    document = json.loads(dart("preprocess", "--input", path, "--describe", "--json").stdout)
    assert document["proposed"] == {"user": "user_id", "item": "item_id"}
    assert document["distinct"]["user_id"] == 12
    write(tmp_path / "b.csv", log().rename({"user_id": "a", "item_id": "b"}))
    unnamed = dart("preprocess", "--input", tmp_path / "b.csv", "--item", "b", "--describe")
    assert "no column name says that it holds the user ids" in unnamed.stderr
    assert "--user COLUMN --item b" in unnamed.stderr
    assert not home.exists()


def test_impressions_are_used_as_they_are(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    assert prepared(tmp_path / "a.csv", "--label", "clicked").exit_code == 0
    data = prepare.preprocess("shop")
    tables = pl.concat([data.split(name) for name in ("train", "valid", "test")])
    assert not data.manifest.sampled_negatives
    assert len(tables) == len(log().unique(["user_id", "item_id"]))
    assert set(tables[LABEL]) == {0, 1}
    assert home.is_dir()


def raw_rows(data: Any) -> dict[str, list[tuple[str, int, object]]]:
    users, items = data.ids(USER)["raw"], data.ids(ITEM)["raw"]
    result = {}
    for name in ("train", "valid", "test"):
        positives = data.split(name).filter(pl.col(LABEL) > 0)
        result[name] = [
            (users[u] if u < len(users) else None, items[i] if i < len(items) else None, t)
            for u, i, t in positives.select(USER, ITEM, TIME).iter_rows()
        ]
    return result


@pytest.mark.parametrize("protocol", ["strict", "reference"])
def test_a_temporal_split_never_lets_the_future_into_training(
    home: Path, tmp_path: Path, protocol: str
) -> None:
    write(tmp_path / "a.parquet", log(150))
    prepared(tmp_path / "a.parquet", "--time", "when", "--split", "temporal")
    rows = raw_rows(prepare.preprocess("shop", protocol=protocol))
    latest, earliest = max, min
    assert latest(t for *_, t in rows["train"]) <= earliest(t for *_, t in rows["valid"])
    assert latest(t for *_, t in rows["valid"]) <= earliest(t for *_, t in rows["test"])
    assert home.is_dir()


def test_leave_last_out_tests_on_each_users_last_interaction(home: Path, tmp_path: Path) -> None:
    table = log(100).with_columns(when=pl.Series(np.random.default_rng(0).permutation(100)))
    write(tmp_path / "a.parquet", table)
    prepared(tmp_path / "a.parquet", "--time", "when", "--split", "leave-last-out")
    data = prepare.preprocess("shop")
    kept = table.unique(["user_id", "item_id"], keep="last", maintain_order=True)
    times = {
        user: sorted(part["when"]) for (user,), part in kept.group_by("user_id") if len(part) >= 3
    }
    rows = raw_rows(data)
    assert sorted(t for *_, t in rows["test"]) == sorted(t[-1] for t in times.values())
    assert sorted(t for *_, t in rows["valid"]) == sorted(t[-2] for t in times.values())
    assert home.is_dir()


def test_ids_first_seen_outside_training_are_unknown(home: Path, tmp_path: Path) -> None:
    # item 999 comes last: with a temporal split no training row has it
    table = log(100).with_columns(when=pl.int_range(100))
    table = table.with_columns(item_id=pl.Series([*range(98), 999, 998]))
    write(tmp_path / "a.parquet", table)
    prepared(tmp_path / "a.parquet", "--time", "when", "--split", "temporal")
    data = prepare.preprocess("shop")
    unknown = data.manifest.fields[1].values
    assert data.field_sizes[1] == unknown + 1
    test = data.split("test").filter(pl.col(LABEL) > 0)
    assert set(test[ITEM]) == {unknown}
    assert unknown not in set(data.split("train")[ITEM])
    assert home.is_dir()


def test_bins_are_quantiles_of_the_training_rows(home: Path, tmp_path: Path) -> None:
    table = log(100).with_columns(when=pl.int_range(100), item_id=pl.int_range(100))
    table = table.with_columns(price=pl.Series([*range(80), *range(1000, 1020)]).cast(pl.Float64))
    write(tmp_path / "a.parquet", table)
    prepared(tmp_path / "a.parquet", "--time", "when", "--split", "temporal",
             "--numeric-field", "price", "--set", "dataset.bins=4")  # fmt: skip
    data = prepare.preprocess("shop")
    field = data.manifest.fields[2]
    assert (field.name, field.edges, field.size) == ("price", (19.0, 39.0, 59.0), 5)
    train = data.split("train").sort(TIME)
    expected = [sum(value >= edge for edge in field.edges) for value in range(80)]
    assert train["price"].to_list() == expected
    assert set(data.split("test")["price"]) == {3}
    assert home.is_dir()


def test_a_clean_test_set_replaces_the_test_split(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    clean = pl.DataFrame(
        {"user_id": ["u1", "u2", "nobody"], "item_id": [101, 102, 103], "clicked": [1, 0, 1]}
    )
    write(tmp_path / "clean.csv", clean)
    done = prepared(
        tmp_path / "a.csv", "--label", "clicked", "--test-clean", tmp_path / "clean.csv"
    )
    assert done.exit_code == 0, done.stderr
    data = prepare.preprocess("shop")
    test = data.split("test")
    assert test[LABEL].to_list() == [1, 0, 1]
    assert test[USER][2] == data.manifest.fields[0].values
    rows = data.manifest.rows
    assert rows["train"] + rows["valid"] == data.manifest.counts.interactions
    assert home.is_dir()


def csv(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "log.csv"
        path.write_bytes(text.encode("latin-1"))
        return path

    return make


def table(**columns: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        frame = log().with_columns(
            **{k: pl.Series(v, strict=False) for k, v in columns.items()}  # type: ignore[arg-type]
        )
        return write(folder / "log.parquet", frame)

    return make


def raw(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


GOOD = table()
LINES = "\n".join(f"u{row % 9},{row},1" for row in range(80_000))
EVERY_PAIR = "".join(f"{user},{item}\n" for user in range(5) for item in range(4))
INVALID: dict[str, tuple[Callable[[Path], Path], list[str], list[str]]] = {
    "no such file": (lambda folder: folder / "no.csv", [], ["no.csv"]),
    "no file matches": (lambda folder: folder / "*.parquet", [], ["*.parquet"]),
    "directory without a log": (lambda folder: folder, [], ["logs", ".jsonl", "--format"]),
    "empty": (raw("log.csv", b""), [], ["log.csv"]),
    "only a header": (csv("user_id,item_id\n"), [], ["shop"]),
    "unknown format": (raw("log.json", b"{}"), [], ["log.json", ".parquet", "--format"]),
    "no suffix": (raw("log", b"x"), [], [".parquet"]),
    "not Parquet": (raw("log.parquet", b"user_id,item_id\n1,2\n"), [], ["log.parquet"]),
    "truncated Parquet": (raw("log.parquet", b"PAR1" + b"\0" * 40), [], ["log.parquet"]),
    "not gzip": (raw("log.csv.gz", b"\x1f\x8bnot gzip"), [], ["log.csv.gz"]),
    "missing column": (GOOD, ["--rating", "star"], ["log.parquet", "`star`", "`stars`"]),
    "missing user": (csv("user,item_id\n1,2\n"), [], ["log.csv", "`user_id`", "`user`"]),
    "list as id": (table(user_id=[[1]] * ROWS), [], ["`user_id`", "List(Int64)"]),
    "float as id": (table(item_id=[0.5] * ROWS), [], ["`item_id`", "Float64"]),
    "missing id": (table(user_id=[None, *["u"] * 59]), [],
                   ["shop", "row 1 of log.parquet", "`user_id`"]),
    "label of 2": (table(clicked=[0, 2] * 30), ["--label", "clicked"],
                   ["row 2 of log.parquet", "`clicked`", "found 2", "0 or 1"]),
    "several invalid labels": (table(clicked=[0, 2, 5] * 20), ["--label", "clicked"],
                               ["row 2 of log.parquet", "found 2", "39 more rows", "(5)"]),
    "UTF-16": (raw("log.csv", "user_id,item_id\n1,2\n".encode("utf-16")), [],
               ["log.csv is UTF-16", "--encoding utf-16"]),
    "Latin-1": (csv("user_id,item_id\n" + "\xe9,1\n" * 20), [],
                ["not UTF-8", "--encoding latin-1"]),
    "wrong encoding": (raw("log.csv", b"user_id,item_id\n\xe9,2\n"), ["--encoding", "ascii"],
                       ["log.csv as ascii", "--encoding"]),
    "semicolons in a .csv": (csv("user_id;item_id\n1;2\n"), [],
                             ["single column, `user_id;item_id`", "--separator ';'"]),
    "tabs in a .csv": (csv("user_id\titem_id\n1\t2\n"), [], ["--separator '\\t'"]),
    "no header": (csv("17,42\n18,43\n"), [], ["`user_id`", "--no-header"]),
    "separator for Parquet": (GOOD, ["--separator", ";"], ["--separator", "log.parquet"]),
    "Parquet read as text": (GOOD, ["--format", "jsonl"], ["log.parquet"]),
    "label is text": (table(clicked=["yes"] * ROWS), ["--label", "clicked"],
                      ["`clicked`", "String"]),
    "missing label": (table(clicked=[*[1] * 59, None]), ["--label", "clicked"],
                      ["row 60 of log.parquet", "`clicked`"]),
    "NaN rating": (table(stars=[1.0, float("nan"), *[1.0] * 58]), ["--rating", "stars"],
                   ["row 2 of log.parquet", "`stars`", "found nan"]),
    "infinite rating": (table(stars=[float("inf")] * ROWS), ["--rating", "stars"],
                        ["row 1 of log.parquet", "`stars`", "found inf"]),
    "rating is text": (GOOD, ["--rating", "device"], ["`device`", "String"]),
    "too many fields": (csv("user_id,item_id,n\n" + LINES[:500_000] + "\nu1,2,3,4\n"), [],
                        ["log.csv, line ", "4 fields"]),
    "text in a column of numbers": (csv("user_id,item_id,n\n" + LINES + "\nu1,x7,3\n"), [],
                                    ["log.csv, line 80,002", "`x7`", "item_id"]),
    "not UTF-8": (csv("user_id,item_id\n" + "é,1\n" * 20), [], ["log.csv"]),
    "few rows": (csv("user_id,item_id\n1,2\n3,4\n"), [], ["2 interactions"]),
    "one user": (table(user_id=["u"] * ROWS), [], ["1 users", "17 items"]),
    "every pair": (csv("user_id,item_id\n" + EVERY_PAIR), [], ["5 users", "4 items"]),
    "number as category": (GOOD, ["--field", "price"], ["`price`", "Float64", "--numeric-field"]),
    "text as number": (GOOD, ["--numeric-field", "device"], ["`device`", "String", "--field"]),
    "temporal without time": (GOOD, ["--split", "temporal"], ["temporal", "--time"]),
    "text as time": (GOOD, ["--time", "device"], ["`device`", "String"]),
    "missing time": (table(when=[None, *[1] * 59]), ["--time", "when", "--split", "temporal"],
                     ["temporal", "1 of 60"]),
    "no such test file": (GOOD, ["--test-clean", "/no/where.csv"], ["/no/where.csv"]),
}  # fmt: skip
INVALID_OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "two characters between columns": (["--separator", "::"], ["--separator", "'::'"]),
    "unknown encoding": (["--encoding", "klingon"], ["--encoding", "klingon"]),
    "unknown format": (["--format", "xml"], ["format", "xml", "jsonl"]),
    "broken SQL": (["--noisy-if", "dwell <"], ["'dwell <'"]),
    "SQL that reads a file": (["--noisy-if", "(SELECT 1 FROM read_csv('/etc/passwd'))"],
                              ["'SELECT'"]),
    "SQL that reads a table": (["--noisy-if", "EXISTS (SELECT * FROM read_parquet('/x'))"],
                               ["'SELECT'"]),
    "SQL with from first": (["--noisy-if", "EXISTS ( FROM read_csv('/x'))"], ["'( FROM'"]),
    "SQL in odd quotes": (["--noisy-if", "$$ ' $$ = (select 1) or $$ ' $$ = 'a'"], ["'select'"]),
    "very long SQL": (["--noisy-if", " + ".join(["dwell"] * 50_000)], ["5,000"]),
    "SQL over a missing column": (["--noisy-if", "dwel < 10"], ["`dwel`", "log.parquet"]),
    "SQL that is a number": (["--noisy-if", "dwell + 1"], ["'dwell + 1'", "Float64"]),
    "field named twice": (["--field", "device", "--field", "device"], ["`device`"]),
    "no such split": (["--split", "weekly"], ["weekly"]),
    "invalid name": (["--name", "a/b"], ["'a/b'"]),
    "name of a built-in dataset": (["--name", "synthetic"], ["'synthetic'"]),
}  # fmt: skip


def error_of(done: Result, code: int) -> str:
    """Return the only error message of a command that failed as it should."""
    assert done.exit_code == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "fault of dartcli" not in done.stderr
    return [line for line in done.stderr.splitlines() if not line.startswith("•")][-1]


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_log_ends_with_an_error_that_names_the_value(
    home: Path, tmp_path: Path, case: str
) -> None:
    make, flags, values = INVALID[case]
    (tmp_path / "logs").mkdir()
    message = error_of(prepared(make(tmp_path / "logs"), *flags), 1)
    assert all(value in message for value in values), message
    assert not list(home.rglob("train.parquet"))


@pytest.mark.parametrize("case", INVALID_OPTIONS)
def test_an_invalid_option_is_a_usage_error_that_names_the_value(
    home: Path, tmp_path: Path, case: str
) -> None:
    flags, values = INVALID_OPTIONS[case]
    message = error_of(prepared(GOOD(tmp_path), *flags), 2)
    assert all(value in message for value in values), message
    assert not list(home.rglob("manifest.json"))


def test_a_log_without_positives_cannot_be_trained_on(home: Path, tmp_path: Path) -> None:
    done = prepared(table(clicked=[0] * ROWS)(tmp_path), "--label", "clicked")
    if done.exit_code == 0:
        done = dart("train", "shop", "--epochs", 1)
    error_of(done, 1)
    assert not list(home.rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--user", "u"], ["--user", "--input"]),
        (["--describe"], ["--describe", "--input"]),
        (["movielens-100k", "--input", "x.csv"], ["movielens-100k", "--input"]),
        (["--input", "x.csv"], ["--input", "--name"]),
        (["--input", "x.csv", "--name", "s", "--user", "u"], ["--input", "--item"]),
        ([], ["--input"]),
    ],
)
def test_flags_that_do_not_fit_are_refused(home: Path, words: list[str], values: list[str]) -> None:
    message = error_of(dart("preprocess", *words), 2)
    assert all(value in message for value in values), message
    assert not home.exists()


def test_other_columns_in_a_second_file_are_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    write(tmp_path / "b.csv", log().drop("price"))
    message = error_of(prepared(tmp_path / "*.csv"), 1)
    assert all(value in message for value in ("a.csv", "b.csv", "price"))
    assert home.name == "home"


def test_of_several_files_the_corrupt_one_is_named(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    (tmp_path / "b.csv").write_bytes(
        b"user_id,item_id,dwell\n" + b"u1,1,2\n" * 20_000 + b"u1,x7,2\n"
    )
    options = LogOptions(inputs=(str(tmp_path / "*.csv"),), user="user_id", item="item_id")
    write(tmp_path / "a.csv", log().select("user_id", "item_id", "dwell"))
    with pytest.raises(DataError, match=r"b\.csv, line 20,002: .*`x7`"):
        prepare.prepare_split(log_dataset("shop"), options, PROTOCOLS["strict"], 0)
    with pytest.raises(DataError, match=r"b\.csv, line 20,002: .*`x7`"):
        preview_log(options)
    assert not list(home.rglob("manifest.json"))


def test_ids_of_a_clean_test_set_must_have_the_type_of_the_log(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    write(tmp_path / "clean.csv", log().with_columns(item_id=pl.lit("x1")))
    message = error_of(prepared(tmp_path / "a.csv", "--test-clean", tmp_path / "clean.csv"), 1)
    assert all(value in message for value in ("`item_id`", "String", "Int64"))
    assert home.is_dir()


def test_a_preview_refuses_the_values_that_preprocessing_refuses(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", log().with_columns(clicked=pl.int_range(60)))
    with pytest.raises(DataError, match=r"row 3, column `clicked`: found 2"):
        preview_log(
            LogOptions(inputs=(str(path),), user="user_id", item="item_id", label="clicked")
        )


def test_an_unknown_dataset_names_your_logs(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    prepared(tmp_path / "a.csv")
    assert "shop" in error_of(dart("train", "shopp"), 2).partition("'shopp'")[2]
    assert home.is_dir()
