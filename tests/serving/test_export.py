"""Exported models, against the model of the run."""

import json
import sys
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch
from cli.running import dart, succeed
from safetensors.torch import load_file

from dartcli.errors import RunError, UsageError
from dartcli.serving import export as module
from dartcli.serving.export import export
from dartcli.serving.model import load_model
from dartcli.serving.predict import predict
from dartcli.storage.checksums import hash_file

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["run", "seed", "format", "output", "files", "largest_difference"],
    "properties": {
        "run": {"type": "string"},
        "seed": {"type": "integer"},
        "format": {"enum": ["safetensors", "onnx", "embeddings"]},
        "output": {"type": "string"},
        "files": {"type": "object", "additionalProperties": {"type": "integer"}},
        "largest_difference": {"type": ["number", "null"]},
    },
}


def read_schema(folder: Path) -> dict[str, object]:
    """Return schema.json after checking that it lists every other file with its checksum."""
    document = json.loads((folder / "schema.json").read_text("utf-8"))
    files = {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "schema.json"
    }
    assert document["files"] == files
    assert {Path(name).suffix for name in files} <= {".parquet", ".safetensors", ".onnx"}
    return document  # type: ignore[no-any-return]


@pytest.mark.usefixtures("served")
def test_weights_are_those_of_the_run(tmp_path: Path) -> None:
    found = export("deepfm", tmp_path / "out", "safetensors")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_model("deepfm", None, "cpu").model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert found["largest_difference"] is None
    assert [field["column"] for field in read_schema(tmp_path / "out")["inputs"]] == [  # type: ignore[attr-defined]
        "uid", "sku", "shop", "price",
    ]  # fmt: skip


@pytest.mark.usefixtures("served")
def test_embeddings_give_the_scores_of_predict(tmp_path: Path) -> None:
    found = export("fm", tmp_path / "out", "embeddings")
    assert found["largest_difference"] < 1e-5
    users, items = (
        pl.read_parquet(tmp_path / "out" / f"{side}s.parquet") for side in ("user", "item")
    )
    pairs = users.head(5).join(items, how="cross")
    code = pl.col("sku") - 1000
    rows = pairs.select(
        "uid", "sku", shop=pl.lit("s") + (code % 4).cast(pl.String), price=code * 1.5
    )
    rows.write_parquet(tmp_path / "in.parquet")
    predict("fm", tmp_path / "in.parquet", tmp_path / "scored.parquet")
    product = (pairs["vector"].to_numpy() * pairs["vector_right"].to_numpy()).sum(axis=1)
    logit = product + pairs["bias"].to_numpy() + pairs["bias_right"].to_numpy()
    expected = pl.read_parquet(tmp_path / "scored.parquet")["logit"]
    np.testing.assert_allclose(logit, expected.to_numpy(), atol=1e-5)
    read_schema(tmp_path / "out")


@pytest.mark.parametrize("name", ["fm", "deepfm"])
@pytest.mark.usefixtures("served")
def test_onnx_gives_the_scores_of_predict_also_for_unknown_ids(name: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    found = export(name, tmp_path / "out", "onnx")
    assert found["largest_difference"] < 1e-5
    schema = read_schema(tmp_path / "out")
    rows = pl.DataFrame(
        {
            "uid": ["u1", "nobody", "u7"], "sku": [1003, 1004, 9], "shop": ["s3", "s0", None],
            "price": [4.5, 6.0, None],
        }
    )  # fmt: skip
    rows.write_parquet(tmp_path / "in.parquet")
    predict(name, tmp_path / "in.parquet", tmp_path / "scored.parquet", unknown="mean")
    codes = []
    for field in schema["inputs"]:  # type: ignore[attr-defined]
        raw = rows[field["column"]]
        if "edges" in field:
            place = np.searchsorted(field["edges"], raw.fill_null(0).to_numpy(), side="right")
            codes.append(np.where(raw.is_null().to_numpy(), field["unknown_code"], place))
        else:
            ids = pl.read_parquet(tmp_path / "out" / field["ids"])
            code = raw.replace_strict(ids["raw"], ids["code"], default=field["unknown_code"])
            codes.append(code.to_numpy())
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    (logit,) = session.run(["logit"], {"fields": np.stack(codes, axis=1).astype(np.int64)})
    expected = pl.read_parquet(tmp_path / "scored.parquet")["logit"].to_numpy()
    np.testing.assert_allclose(logit, expected, atol=1e-5)


@pytest.mark.usefixtures("served")
def test_the_command_prints_the_largest_difference(tmp_path: Path) -> None:
    words = ["export", "fm", "--format", "embeddings", "-o"]
    result = succeed(*words, str(tmp_path / "one"))
    assert "largest difference to the run on 10,000 random rows" in result.stderr
    assert "Wrote 3 files" in result.stdout
    assert succeed(*words, str(tmp_path / "two"), "-q").stdout.strip() == str(tmp_path / "two")
    document = json.loads(succeed(*words, str(tmp_path / "three"), "--json").stdout)
    jsonschema.validate(document, SCHEMA)


@pytest.mark.usefixtures("served")
def test_what_cannot_be_exported_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="deepfm is not an inner product"):
        export("deepfm", tmp_path / "out", "embeddings")
    with pytest.raises(UsageError, match="'pickle'"):
        export("fm", tmp_path / "out", "pickle")
    with pytest.raises(UsageError, match="exists"):
        export("fm", tmp_path, "safetensors")
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match="differs by"):
        export("fm", tmp_path / "out", "embeddings")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    result = dart("export", "fm", "--format", "onnx", "-o", str(tmp_path / "out"))
    assert "pip install 'dartcli[export]'" in result.stderr
    assert list(tmp_path.iterdir()) == []
