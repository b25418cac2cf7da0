"""Own logs: what is understood, and a table of what is refused with a sentence."""

import gzip
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
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.schema import LogOptions
from dartcli.data.registry import preview_log

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
def test_every_format_is_understood_alike(tmp_path: Path, name: str) -> None:
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


def test_a_log_becomes_a_data_set_that_trains_evaluates_and_is_analyzed(
    home: Path, tmp_path: Path
) -> None:
    table = pl.concat([log().with_columns(pl.col("item_id") + 17 * k) for k in range(8)])
    write(tmp_path / "a.parquet", table[:200])
    write(tmp_path / "b.parquet", table[200:])
    done = prepared(tmp_path / "*.parquet", "--noisy-if", "dwell < 20", "--field", "device",
                    "--numeric-field", "price", "--rating", "stars")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "further fields: device (3), price (11)" in done.stdout
    assert "next: dart train shop" in done.stderr
    again = prepared(tmp_path / "*.parquet", "--noisy-if", "dwell < 20", "--field", "device",
                     "--numeric-field", "price", "--rating", "stars")  # fmt: skip
    assert "nothing to do" in again.stderr
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


def test_changed_files_are_prepared_anew(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", log())
    prepared(path)
    write(path, log(90))
    done = prepared(path)
    assert "nothing to do" not in done.stderr
    assert home.is_dir()


def test_describe_shows_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", log())
    done = dart("preprocess", "--input", path, "--user", "user_id", "--item", "item_id",
                "--noisy-if", "dwell < 10", "--describe")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "10 rows are known false positives (dwell < 10)" in done.stdout
    assert "negatives are sampled" in done.stdout
    assert not home.exists()
    found = preview_log(LogOptions(inputs=(str(path),), user="user_id", item="item_id"))
    assert found["counts"] == {"rows": 60, "users": 12, "items": 17}
    assert found["columns"]["device"] == "String"
    assert len(found["rows"]) == 5


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
BROKEN: list[tuple[str, Callable[[Path], Path], list[str], int, str]] = [
    ("no such file", lambda f: f / "no.csv", [], 1, r"no\.csv: there is no such file"),
    ("no match", lambda f: f / "*.parquet", [], 1, r"\*\.parquet: there is no such file"),
    ("a directory", lambda f: f, [], 1, "there is no such file"),
    ("empty", raw("log.csv", b""), [], 1, r"log\.csv is empty"),
    ("header only", csv("user_id,item_id\n"), [], 1, "holds no interaction"),
    ("unknown format", raw("log.json", b"{}"), [], 1, "format is not known from its name"),
    ("no suffix", raw("log", b"x"), [], 1, "format is not known"),
    ("not Parquet", raw("log.parquet", b"user_id,item_id\n1,2\n"), [], 1, r"cannot read .*log"),
    ("cut Parquet", raw("log.parquet", b"PAR1" + b"\0" * 40), [], 1, r"cannot read .*log"),
    ("not gzip", raw("log.csv.gz", b"\x1f\x8bnot gzip"), [], 1, r"cannot read .*log"),
    ("wrong column", table(), ["--rating", "star"], 1, r"no column 'star'; did you mean 'stars'"),
    ("wrong user", csv("user,item_id\n1,2\n"), [], 1, "no column 'user_id'; did you mean 'user'"),
    ("list ids", table(user_id=[[1]] * ROWS), [], 1, r"'user_id' is List\(.*identifies nothing"),
    ("float ids", table(item_id=[0.5] * ROWS), [], 1, "'item_id' is Float64, which identifies"),
    ("empty id", table(user_id=[None, *["u"] * 59]), [], 1, "column user is empty in row 1 "),
    ("label of 2", table(clicked=[2] * ROWS), ["--label", "clicked"], 1,
     r"log\.parquet, row 1, column 'clicked': found 2, expected 0 or 1"),
    ("label text", table(clicked=["yes"] * ROWS), ["--label", "clicked"], 1,
     "label column 'clicked' is String; expected 0 and 1"),
    ("label missing", table(clicked=[*[1] * 59, None]), ["--label", "clicked"], 1, r"row 60, col"),
    ("NaN rating", table(stars=[1.0, float("nan"), *[1.0] * 58]), ["--rating", "stars"], 1,
     r"row 2, column 'stars': found nan, expected a number"),
    ("infinite rating", table(stars=[float("inf")] * ROWS), ["--rating", "stars"], 1, "found inf"),
    ("text rating", table(), ["--rating", "device"], 1, "rating column 'device' is String"),
    ("bad row", csv("user_id,item_id,n\n" + LINES[:500_000] + "\nu1,2,3,4\n"), [], 1,
     r"cannot read .*log\.csv, line [\d,]+, which has 4 fields"),
    ("bad number far down", csv("user_id,item_id,n\n" + LINES + "\nu1,x7,3\n"), [], 1,
     r"cannot read .*log\.csv, line 80,002: could not parse `x7` .* column 'item_id'"),
    ("bad encoding", csv("user_id,item_id\n" + "é,1\n" * 20), [], 1, "cannot read|utf-?8"),
    ("one user", table(user_id=["u"] * ROWS), [], 1, "only 17 interactions|no negative"),
    ("few rows", csv("user_id,item_id\n1,2\n3,4\n"), [], 1, "only 2 interactions; a split needs"),
    ("every pair", csv("user_id,item_id\n" + "\n".join(f"{u},{i}" for u in range(5)
                                                          for i in range(4)) + "\n"), [], 1,
     "every one of the 5 users interacted with every one of the 4 items"),
    ("no positives", table(clicked=[0] * ROWS), ["--label", "clicked"], 1, "no positive"),
    ("bad SQL", GOOD, ["--noisy-if", "dwell <"], 2, r"--noisy-if 'dwell <' is no SQL expression"),
    ("SQL of a file", GOOD, ["--noisy-if", "(SELECT 1 FROM read_csv('/etc/passwd'))"], 2,
     "nothing but columns of the log may occur in it"),
    ("SQL of a table", GOOD, ["--noisy-if", "EXISTS (SELECT * FROM read_parquet('/x'))"], 2,
     "'SELECT' is not read"),
    ("SQL from first", GOOD, ["--noisy-if", "EXISTS ( FROM read_csv('/x'))"], 2, "is not read"),
    ("SQL in odd quotes", GOOD, ["--noisy-if", "$$ ' $$ = (select 1) or $$ ' $$ = 'a'"], 2,
     "'select' is not read"),
    ("SQL without end", GOOD, ["--noisy-if", " + ".join(["dwell"] * 50_000)], 2,
     "at most 5,000 are read"),
    ("SQL column", GOOD, ["--noisy-if", "dwel < 10"], 2, "no column 'dwel'"),
    ("SQL number", GOOD, ["--noisy-if", "dwell + 1"], 2, "gives Float64, not true or false"),
    ("number as field", GOOD, ["--field", "price"], 1, "'price' is Float64, which identifies"),
    ("text as number", GOOD, ["--numeric-field", "device"], 1, "'device' is String, not a number"),
    ("field twice", GOOD, ["--field", "device", "--field", "device"], 2, "named twice"),
    ("temporal, no time", GOOD, ["--split", "temporal"], 1, "there is no time; name its column"),
    ("text time", GOOD, ["--time", "device"], 1, "time column 'device' is String"),
    ("missing time", table(when=[None, *[1] * 59]), ["--time", "when", "--split", "temporal"], 1,
     "time is missing in 1 of"),
    ("no such split", GOOD, ["--split", "weekly"], 2, r"dataset\.split is 'weekly'"),
    ("bad name", GOOD, ["--name", "a/b"], 2, "cannot name a dataset"),
    ("taken name", GOOD, ["--name", "synthetic"], 2, "is a dataset of this program"),
    ("no clean file", GOOD, ["--test-clean", "/no/where.csv"], 1, "there is no such file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "flags", "code", "sentence"),
    [case[1:] for case in BROKEN],
    ids=[case[0] for case in BROKEN],
)
def test_what_cannot_be_understood_is_refused_with_one_sentence(
    home: Path,
    tmp_path: Path,
    make: Callable[[Path], Path],
    flags: list[str],
    code: int,
    sentence: str,
) -> None:
    import re

    (tmp_path / "logs").mkdir()
    done = prepared(make(tmp_path / "logs"), *flags)
    if done.exit_code == 0:
        # what a split can hold may still be nothing to learn from
        done = dart("train", "shop", "--epochs", 1)
    assert done.exit_code == code, (done.stdout, done.stderr)
    said = [line for line in done.stderr.splitlines() if line.startswith("dart: ")]
    assert len(said) == 1
    assert re.search(sentence, said[0]), said[0]
    assert "Traceback" not in done.stderr
    assert "fault of dartcli" not in done.stderr
    folders = home.rglob("manifest.json")
    assert code == 1 or not list(folders)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--user", "u"], "--user belongs to your own log"),
        (["--describe"], "--describe belongs to your own log"),
        (["movielens-100k", "--input", "x.csv"], "not both"),
        (["--input", "x.csv"], "--input needs --name"),
        (["--input", "x.csv", "--name", "s", "--user", "u"], "--input needs --item"),
        ([], "name a dataset, or give your own log"),
    ],
)
def test_flags_that_do_not_fit_are_refused(home: Path, words: list[str], sentence: str) -> None:
    done = dart("preprocess", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not home.exists()


def test_other_columns_in_a_second_file_are_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    write(tmp_path / "b.csv", log().drop("price"))
    done = prepared(tmp_path / "*.csv")
    assert done.exit_code == 1
    assert "b.csv has other columns than" in done.stderr
    assert "(differing: price)" in done.stderr


def test_an_unknown_data_set_names_your_logs(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", log())
    prepared(tmp_path / "a.csv")
    done = dart("train", "shopp")
    assert done.exit_code == 2
    assert "Your own logs are: shop" in done.stderr
    assert home.is_dir()
