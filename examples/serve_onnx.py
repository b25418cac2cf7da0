"""Serve an exported model without PyTorch: `python examples/serve_onnx.py DIRECTORY new.csv`.

The directory comes from `dart export RUN --format onnx -o DIRECTORY` (fields with ids only).
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl

folder, rows = Path(sys.argv[1]), pl.read_csv(sys.argv[2])
session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
codes = []
for field in json.loads((folder / "schema.json").read_text("utf-8"))["inputs"]:
    ids, raw = pl.read_parquet(folder / field["ids"]), rows[field["column"]]
    codes.append(raw.replace_strict(ids["raw"], ids["code"], default=field["unknown_code"]))
(logit,) = session.run(["logit"], {"fields": np.stack(codes, axis=1).astype(np.int64)})
print(rows.with_columns(logit=logit, probability=1 / (1 + np.exp(-logit))))
