"""Write Excel files: .xlsx, and large .xls faster than xlwt does."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from xlwt.CompoundDoc import XlsDoc

Floats = npt.NDArray[np.float64]


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def write_xls(path: Path, matrix: Floats) -> None:
    """Write numbers with two decimals to the first sheet of a BIFF8 workbook, a record per row."""
    rows, columns = matrix.shape
    begin = struct.pack("<HHHHII", 0x0600, 0x0005, 0x0DBB, 0x07CC, 0, 0x06)
    end = _record(0x000A, b"")
    name = b"\x06\x00Sheet1"
    length = len(_record(0x0809, begin)) + 4 + 6 + len(name) + len(end)
    globals_ = _record(0x0809, begin) + _record(0x0085, struct.pack("<IH", length, 0) + name) + end
    begin = struct.pack("<HHHHII", 0x0600, 0x0010, 0x0DBB, 0x07CC, 0, 0x06)
    sheet = _record(0x0809, begin)
    sheet += _record(0x0200, struct.pack("<IIHHH", 0, rows, 0, columns, 0))
    kind = np.dtype(
        [("kind", "<u2"), ("size", "<u2"), ("row", "<u2"), ("first", "<u2"),
         ("cells", [("format", "<u2"), ("value", "<i4")], (columns,)), ("last", "<u2")]
    )  # fmt: skip
    records = np.zeros(rows, kind)
    records["kind"], records["size"] = 0x00BD, kind.itemsize - 4
    records["row"], records["last"] = np.arange(rows), columns - 1
    # an RK number with both flags set: an integer that readers divide by 100
    records["cells"]["value"] = (np.round(matrix * 100).astype(np.int32) << 2) | 3
    stream = globals_ + sheet + records.tobytes() + end
    stream += b"\0" * (-len(stream) % 4096)
    XlsDoc().save(str(path), stream)


def write_xlsx(path: Path, matrix: Floats) -> None:
    """Write numbers to the first sheet of a workbook, without a header."""
    pl.DataFrame(matrix).write_excel(path, include_header=False)
