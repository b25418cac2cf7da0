"""Write a trained model for other programs: safetensors, ONNX, or embeddings. No pickles."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from dartcli._version import __version__
from dartcli.data.columns import ITEM, LABEL, USER
from dartcli.data.encode import CODE, RAW
from dartcli.errors import RunError, UsageError
from dartcli.experiments.run import Run
from dartcli.serving.model import TrainedModel, load_model
from dartcli.storage.atomic import atomic_directory, write_json
from dartcli.storage.checksums import hash_file
from dartcli.storage.tables import write_table, write_tensors
from dartcli.training.retrieval import PairFields
from dartcli.training.warm_start import add_mean_rows

FORMATS: Final = ("safetensors", "onnx", "embeddings")
ROWS: Final = 10_000
"""Random rows on which an exported model is compared with the original."""
TOLERANCE: Final = 1e-3
"""Largest difference of two logits that can be rounding."""


def export(
    run: Run | str, directory: Path | str, form: str, *, seed: int | None = None
) -> dict[str, Any]:
    """Write a trained model with its id maps and ``schema.json`` to a new directory.

    ``safetensors``: the weights. ``onnx``: a graph from Long[N, F] codes to Float[N] logits, in
    which the code after the last of each field is the mean of the known ones. ``embeddings``: a
    vector and a bias of each user and each item, by raw id, if the model is an inner product.

    Returns
    -------
    dict
        ``run``, ``seed``, ``format``, ``output``, ``files`` (name -> bytes), and
        ``largest_difference``: of the logits on 10,000 random rows; null for safetensors, which are
        the weights themselves.

    Raises
    ------
    UsageError, RunError
        If the run, the format, or the directory cannot be used, packages are missing, or the
        exported model differs.
    """
    directory = Path(directory)
    if form not in FORMATS:
        raise UsageError(f"no format {form!r}. Choose from {', '.join(FORMATS)}.")
    if directory.exists():
        raise UsageError(f"{directory} exists. Choose another directory, or remove it.")
    trained = load_model(run, seed, "cpu")
    write = {"safetensors": _write_weights, "onnx": _write_onnx, "embeddings": _write_embeddings}
    with atomic_directory(directory) as place, torch.no_grad():
        about, difference = write[form](trained, place)
        if difference is not None and not difference <= TOLERANCE:
            raise RunError(
                f"the exported model differs by {difference:.2g} from the run {trained.run.name}. "
                "Nothing was written. Report this with the versions of your packages."
            )
        _write_schema(trained, form, about, place)
        sizes = {
            path.relative_to(place).as_posix(): path.stat().st_size
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }
    return {
        "run": trained.run.name,
        "seed": trained.seed,
        "format": form,
        "output": str(directory),
        "files": sizes,
        "largest_difference": difference,
    }


def _write_weights(trained: TrainedModel, place: Path) -> tuple[dict[str, Any], None]:
    weights = {name: value.contiguous() for name, value in trained.model.state_dict().items()}
    write_tensors(weights, place / "model.safetensors")
    _write_ids(trained, place)
    return {
        "inputs": _describe_inputs(trained, trained.prepared.field_sizes),
        "outputs": [{"name": "logit", "type": "float32"}],
        "unknown": "none: the weights have no row for an unknown id",
    }, None


def _write_onnx(trained: TrainedModel, place: Path) -> tuple[dict[str, Any], float]:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"cannot export to ONNX: the package `{package}` is missing. Run "
                "`pip install 'dartcli[export]'`."
            )
    model = add_mean_rows(
        trained.model, trained.configuration, trained.prepared.field_sizes, trained.known
    )
    sizes = [len(known) + 1 for known in trained.known.values()]
    fields = _draw_rows(sizes)
    path = place / "model.onnx"
    _export_graph(model, fields, path)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logit"], {"fields": fields.numpy()})
    _write_ids(trained, place)
    return {
        "inputs": _describe_inputs(trained, sizes),
        "tensor": {"name": "fields", "type": "int64", "shape": ["rows", len(sizes)]},
        "outputs": [{"name": "logit", "type": "float32", "shape": ["rows"]}],
        "unknown": "the code `unknown_code` of a field has the mean weights of its known values",
    }, _largest_difference(model(fields), torch.from_numpy(np.asarray(found)))


def _export_graph(model: nn.Module, fields: Tensor, path: Path) -> None:
    """Write an ONNX graph for any number of rows."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    # it warns of its own internals
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (fields[:4],),
                path,
                input_names=["fields"],
                output_names=["logit"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                dynamo=True,
                external_data=sum(one.nbytes for one in model.parameters()) > 1 << 30,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)


def _write_embeddings(trained: TrainedModel, place: Path) -> tuple[dict[str, Any], float]:
    split = getattr(trained.model, "split_logit", None)
    if split is None:
        raise UsageError(
            f"the model {trained.run.metrics.model} is not an inner product of users and items. "
            "Use `--format onnx` or `--format safetensors`."
        )
    table = trained.tables["train"].filter(pl.col(LABEL) > 0).select(list(trained.fields))
    positives = torch.from_numpy(table.cast(pl.Int64).to_numpy(writable=True))
    pairs = PairFields(positives, trained.prepared.field_sizes)
    sides, chosen = {}, {}
    for name, columns in zip((USER, ITEM), pairs.sides(), strict=True):
        ids = trained.ids[name]
        code = torch.from_numpy(ids[CODE].cast(pl.Int64).to_numpy(writable=True))
        other = torch.zeros_like(code)
        fields = pairs.values(code, other) if name == USER else pairs.values(other, code)
        vector, own = split(fields, columns)
        rows = {
            trained.columns[name]: ids[RAW],
            "vector": pl.Series(vector.numpy(), dtype=pl.Array(pl.Float32, vector.shape[1])),
            "bias": own.numpy(),
        }
        write_table(pl.DataFrame(rows), place / f"{name}s.parquet")
        draw = torch.randint(len(code), (ROWS,), generator=torch.Generator().manual_seed(0))
        sides[name], chosen[name] = (vector[draw], own[draw]), code[draw]
    product = (sides[USER][0] * sides[ITEM][0]).sum(dim=1) + sides[USER][1] + sides[ITEM][1]
    logit = trained.model(pairs.values(chosen[USER], chosen[ITEM]))
    return {
        "outputs": [{"name": "logit", "type": "float32"}],
        "logit": "user bias + item bias + inner product of the two vectors",
        "unknown": "none: only known users and items have a row",
    }, _largest_difference(logit, product)


def _write_ids(trained: TrainedModel, place: Path) -> None:
    (place / "ids").mkdir()
    for name, ids in trained.ids.items():
        write_table(ids, place / "ids" / f"{name}.parquet")


def _describe_inputs(trained: TrainedModel, sizes: tuple[int, ...] | list[int]) -> list[Any]:
    """Return for each field its column, type, and how a raw value becomes a code."""
    described = []
    for (name, field), size in zip(trained.fields.items(), sizes, strict=True):
        about: dict[str, Any] = {"name": name, "column": trained.columns[name], "codes": size}
        if field.edges is None:
            about |= {"type": str(trained.ids[name].schema[RAW]), "ids": f"ids/{name}.parquet"}
        else:
            # a value at an edge belongs to the bin above
            about |= {"type": "Float32", "edges": list(field.edges)}
        if size > field.values:
            about["unknown_code"] = field.values
        described.append(about)
    return described


def _write_schema(trained: TrainedModel, form: str, about: Mapping[str, Any], place: Path) -> None:
    files = {
        path.relative_to(place).as_posix(): hash_file(path)
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }
    settings = trained.configuration.settings
    write_json(
        place / "schema.json",
        {
            "format": form,
            "run": trained.run.name,
            "seed": trained.seed,
            "dataset": settings.dataset.name,
            "data": trained.prepared.digest,
            "model": settings.model.model_dump(mode="json"),
            **about,
            "versions": {"dartcli": __version__, "torch": torch.__version__},
            "files": files,
        },
    )


def _draw_rows(sizes: list[int]) -> Tensor:
    """Return Long[ROWS, F] random codes."""
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(size, (ROWS,), generator=generator) for size in sizes]
    return torch.stack(columns, dim=1)


def _largest_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
