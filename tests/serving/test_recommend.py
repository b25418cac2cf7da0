"""Lists of items, against scoring every pair with `dart predict`."""

import json
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from cli.running import dart, succeed

from dartcli.errors import DataError, UsageError
from dartcli.serving.model import load_model
from dartcli.serving.predict import predict
from dartcli.serving.recommend import recommend


def score_pairs(name: str, tmp_path: Path) -> pl.DataFrame:
    """Every known pair with its logit; shop and price are functions of the item."""
    trained = load_model(name, None, "cpu")
    users, items = (trained.ids[field]["raw"] for field in ("user", "item"))
    pairs = users.alias("uid").to_frame().join(items.alias("sku").to_frame(), how="cross")
    code = pl.col("sku") - 1000
    shop = pl.lit("s") + (code % 4).cast(pl.String)
    rows = pairs.with_columns(shop=shop, price=(code * 1.5).cast(pl.Float64))
    rows.write_parquet(tmp_path / "pairs.parquet")
    predict(name, tmp_path / "pairs.parquet", tmp_path / "scored.parquet")
    return pl.read_parquet(tmp_path / "scored.parquet")


def list_best(scored: pl.DataFrame, k: int) -> dict[str, list[int]]:
    ordered = scored.sort("uid", -pl.col("logit"), "sku")
    best = ordered.group_by("uid", maintain_order=True).head(k)
    return {user: group["sku"].to_list() for (user,), group in best.group_by("uid")}  # type: ignore[misc]


def read_lists(path: Path) -> dict[str, list[int]]:
    table = pl.read_parquet(path)
    assert table.columns == ["uid", "sku", "rank", "logit"]
    for _, group in table.group_by("uid"):
        assert group["rank"].to_list() == list(range(1, len(group) + 1))
    return {
        user: group["sku"].to_list()
        for (user,), group in table.group_by("uid", maintain_order=True)
    }  # type: ignore[misc]


@pytest.mark.parametrize("name", ["fm", "deepfm"])
def test_lists_are_the_best_of_all_scored_pairs(name: str, served: Path, tmp_path: Path) -> None:
    scored = score_pairs(name, tmp_path)
    found = recommend(name, tmp_path / "recs.parquet", k=7)
    lists = read_lists(tmp_path / "recs.parquet")
    assert lists == list_best(scored, 7)
    assert found["users"] == len(lists)
    assert found["rows"] == 7 * len(lists)

    seen = pl.read_parquet(served / "log.parquet").select("uid", "sku")
    recommend(name, tmp_path / "new.parquet", k=40, exclude_seen=True)
    unseen = scored.join(seen, on=["uid", "sku"], how="anti")
    assert read_lists(tmp_path / "new.parquet") == list_best(unseen, 40)


@pytest.mark.usefixtures("served")
def test_users_and_candidates_come_from_files(tmp_path: Path) -> None:
    scored = score_pairs("fm", tmp_path)
    pl.DataFrame({"uid": ["u9", "nobody", "u3", "u9"]}).write_csv(tmp_path / "users.csv")
    pl.DataFrame({"sku": [1040, 1002, 1007, 9999]}).write_csv(tmp_path / "items.csv")
    words = [
        "recommend", "fm", "--users", str(tmp_path / "users.csv"), "--k", "2",
        "--candidates", str(tmp_path / "items.csv"), "-o", str(tmp_path / "r.parquet"),
    ]  # fmt: skip
    result = succeed(*words, "--json")
    jsonschema.validate(json.loads(result.stdout), SCHEMA)
    assert json.loads(result.stdout)["unknown"] == {"user": 1, "item": 1}
    assert "1 ids of the field user are unknown" in result.stderr
    lists = read_lists(tmp_path / "r.parquet")
    assert list(lists) == ["u9", "u3"]
    few = scored.filter(pl.col("sku").is_in([1040, 1002, 1007]), pl.col("uid").is_in(list(lists)))
    assert lists == list_best(few, 2)
    assert "Wrote 4 items for 2 users" in succeed(*words).stdout


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["run", "seed", "output", "users", "rows", "unknown"],
    "properties": {
        "run": {"type": "string"},
        "seed": {"type": "integer"},
        "output": {"type": "string"},
        "users": {"type": "integer"},
        "rows": {"type": "integer"},
        "unknown": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}


@pytest.mark.usefixtures("served")
def test_invalid_arguments_are_errors(tmp_path: Path) -> None:
    result = dart("recommend", "fm", "-o", str(tmp_path / "r.parquet"))
    assert result.exit_code == 2
    assert "--users FILE" in result.stderr
    with pytest.raises(UsageError, match="is 0"):
        recommend("fm", tmp_path / "r.parquet", k=0)
    pl.DataFrame({"uid": ["nobody"]}).write_csv(tmp_path / "users.csv")
    with pytest.raises(DataError, match="knows none of the values of column `uid`"):
        recommend("fm", tmp_path / "r.parquet", users=tmp_path / "users.csv")
