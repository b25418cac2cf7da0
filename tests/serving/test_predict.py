"""Scores of new rows, against the scores that the run itself keeps."""

import json
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import torch
from cli.running import dart, succeed

from dartcli.data.tensors import to_interactions
from dartcli.errors import DataError, UsageError
from dartcli.experiments.run_index import find_run
from dartcli.serving import predict as module
from dartcli.serving.model import load_model
from dartcli.serving.predict import predict


def write_rows(path: Path, **changes: list[object]) -> Path:
    rows = {"uid": ["u1", "u2"], "sku": [1003, 1004], "shop": ["s3", "s0"], "price": [4.5, 6.0]}
    pl.DataFrame({**rows, **changes}).write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["fm", "deepfm"])
@pytest.mark.usefixtures("served")
def test_rows_of_the_test_split_get_the_scores_of_the_run(name: str, tmp_path: Path) -> None:
    """The raw values of test rows lead back to the codes, bins, and logits of the training."""
    trained = load_model(name, None, "cpu")
    test = trained.tables["test"].with_row_index("number")
    known = test.filter(
        *(pl.col(field).is_in(ids["code"].implode()) for field, ids in trained.ids.items())
    )
    price = pl.col("sku").cast(pl.Int64).sub(1000).mul(1.5).cast(pl.Float64)
    raw = known.select(
        uid=pl.col("user").replace_strict(*trained.prepared.ids("user")[["code", "raw"]]),
        sku=pl.col("item").replace_strict(*trained.prepared.ids("item")[["code", "raw"]]),
        shop=pl.col("shop").replace_strict(*trained.prepared.ids("shop")[["code", "raw"]]),
    ).with_columns(price=price)
    # sampled negatives have the further fields of another row; only positives have their own price
    positive = known["label"] > 0
    raw.filter(positive).write_parquet(tmp_path / "in.parquet")
    found = predict(name, tmp_path / "in.parquet", tmp_path / "out.parquet")
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert scored.columns == [*raw.columns, "logit", "probability"]
    assert scored.select(raw.columns).equals(raw.filter(positive))
    expected = find_run(name).scores(0).filter(pl.col("split") == "test")["logit"]
    expected = expected.gather(known["number"].filter(positive))
    assert len(expected) > 50
    assert scored["logit"].to_list() == pytest.approx(expected.to_list(), abs=1e-6)
    probability = torch.tensor(expected.to_list()).sigmoid().tolist()
    assert scored["probability"].to_list() == pytest.approx(probability, abs=1e-6)
    assert found["unknown"] == {"user": 0, "item": 0, "shop": 0, "price": 0}


@pytest.mark.parametrize("name", ["fm", "deepfm"])
@pytest.mark.usefixtures("served")
def test_scores_do_not_depend_on_the_block(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 32)
    rows = _many_rows()
    rows.write_parquet(tmp_path / "in.parquet", row_group_size=77)
    scored = []
    for size in (1, 100, 10_000):
        output = tmp_path / f"{size}.parquet"
        assert predict(name, tmp_path / "in.parquet", output, block_rows=size)["rows"] == 1001
        scored.append(pl.read_parquet(output))
    assert scored[0].equals(scored[1])
    assert scored[0].equals(scored[2])
    assert scored[0].select(rows.columns).equals(rows)


def _many_rows() -> pl.DataFrame:
    number = pl.arange(1001, eager=True)
    return pl.DataFrame(
        {
            "uid": "u" + (number % 60).cast(pl.String),
            "sku": number % 50 + 1000,
            "shop": "s" + (number % 4).cast(pl.String),
            "price": (number % 50).cast(pl.Float64),
        }
    )


@pytest.mark.usefixtures("served")
def test_unknown_values_follow_the_rule(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.parquet", uid=["u1", "nobody"], shop=["s3", None])
    output = tmp_path / "out.parquet"
    found = predict("fm", path, output)
    assert found["unknown"] == {"user": 1, "item": 0, "shop": 1, "price": 0}
    first, second = pl.read_parquet(output)["logit"]
    assert first is not None
    assert second is None
    with pytest.raises(DataError, match=r"row 2, column `uid`.*'nobody'"):
        predict("fm", path, tmp_path / "none.parquet", unknown="error")
    assert not (tmp_path / "none.parquet").exists()
    with pytest.raises(UsageError, match="'maybe'"):
        predict("fm", path, output, unknown="maybe")


@pytest.mark.usefixtures("served")
def test_the_mean_rule_uses_the_mean_weights_of_known_values(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.parquet", uid=["u1", "nobody"], price=[4.5, None])
    predict("fm", path, tmp_path / "out.parquet", unknown="mean")
    predict("fm", path, tmp_path / "null.parquet")
    first, second = pl.read_parquet(tmp_path / "out.parquet")["logit"]
    assert first == pl.read_parquet(tmp_path / "null.parquet")["logit"][0]

    trained = load_model("fm", None, "cpu")
    table, offset = trained.model.embedding.table.detach(), trained.model.embedding.offsets.tolist()
    sizes = trained.prepared.field_sizes
    rows = []
    for number, (name, raw) in enumerate({"user": None, "item": 1004, "shop": "s0"}.items()):
        ids = trained.ids[name]
        codes = ids["code"] if raw is None else ids.filter(pl.col("raw") == raw)["code"]
        rows.append(table[[offset[number] + code for code in codes]].mean(dim=0))
    # every bin occurs in training; the last code is that of a missing number
    rows.append(table[offset[3] : offset[3] + sizes[3] - 1].mean(dim=0))
    vectors = torch.stack(rows)
    factors, own = vectors[:, :-1], vectors[:, -1].sum() + trained.model.bias.detach()
    pairs = sum(factors[i] @ factors[j] for i in range(4) for j in range(i))
    assert second == pytest.approx(float(own + pairs), abs=1e-5)


@pytest.mark.usefixtures("served")
def test_a_value_outside_of_the_training_split_is_unknown() -> None:
    trained = load_model("fm", None, "cpu")
    for name in ("user", "item"):
        codes = set(trained.ids[name]["code"])
        assert codes == set(trained.tables["train"][name]) - {trained.fields[name].values}
    rows = to_interactions(trained.tables["test"], trained.prepared.fields, trained.device)
    assert len(rows) > 0


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["run", "seed", "output", "rows", "unknown"],
    "properties": {
        "run": {"type": "string"},
        "seed": {"type": "integer"},
        "output": {"type": "string"},
        "rows": {"type": "integer"},
        "unknown": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}


@pytest.mark.usefixtures("served")
def test_the_command_counts_unknown_ids_on_stderr(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.parquet", uid=["u1", "nobody"])
    words = ["predict", "fm", "--input", str(path), "-o", str(tmp_path / "out.parquet")]
    result = succeed(*words)
    assert "1 of 2 rows have an unknown user" in result.stderr
    assert "Wrote 2 rows" in result.stdout
    assert succeed(*words, "-q").stdout.strip() == str(tmp_path / "out.parquet")
    jsonschema.validate(json.loads(succeed(*words, "--json").stdout), SCHEMA)


@pytest.mark.parametrize(
    ("changes", "output", "said"),
    [
        ({"logit": [1.0, 2.0]}, "out.parquet", "already has a column `logit`"),
        ({"uid": [1, 2]}, "out.parquet", "`uid` is Int64, but String"),
        ({"price": ["a", "b"]}, "out.parquet", "`price` is String; expected numbers"),
        ({}, "out.csv", "results are Parquet"),
    ],
)
@pytest.mark.usefixtures("served")
def test_errors_name_the_column_or_file(
    changes: dict[str, list[object]], output: str, said: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "in.parquet", **changes)
    result = dart("predict", "fm", "--input", str(path), "-o", str(tmp_path / output))
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.split())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.parquet"]


@pytest.mark.usefixtures("served")
def test_a_file_without_rows_gives_one_without_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("uid,sku,shop,price\n")
    assert predict("fm", tmp_path / "in.csv", tmp_path / "out.parquet")["rows"] == 0
    assert pl.read_parquet(tmp_path / "out.parquet").columns[-2:] == ["logit", "probability"]


@pytest.mark.usefixtures("served")
def test_a_missing_column_or_file_is_an_error(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.parquet")
    pl.read_parquet(tmp_path / "in.parquet").drop("shop").write_parquet(tmp_path / "few.parquet")
    with pytest.raises(DataError, match=r"no column `shop` in few\.parquet"):
        predict("fm", tmp_path / "few.parquet", tmp_path / "out.parquet")
    with pytest.raises(DataError, match="no file"):
        predict("fm", tmp_path / "absent.parquet", tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="no seed 7"):
        predict("fm", tmp_path / "in.parquet", tmp_path / "out.parquet", seed=7)
