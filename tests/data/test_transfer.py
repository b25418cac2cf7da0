"""Downloads over a bad connection, from a local server that misbehaves on demand."""

import hashlib
import multiprocessing
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from dartcli.data import transfer
from dartcli.data.dataset import DataOptions, Dataset, SourceFile
from dartcli.data.download import fetch_dataset
from dartcli.errors import DartError, DownloadError

CONTENT = bytes(range(256)) * 2000
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Plan:
    """How the server behaves, and what it did."""

    content: bytes = CONTENT
    tag: str = '"one"'
    break_after: list[int] = field(default_factory=list)  # bytes sent before each break
    statuses: list[int] = field(default_factory=list)  # answers before the first good one
    ranges: bool = True
    trickle: bool = False
    served: int = 0
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        plan: Plan = self.server.plan  # type: ignore[attr-defined]
        plan.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        if self.path == "/moved":
            self.answer(302, b"", Location="/file.bin")
            return
        if self.path == "/gone":
            self.answer(404, b"")
            return
        if self.path == "/other":
            self.answer(200, b"other content", ETag='"x"')
            return
        if plan.statuses:
            self.answer(plan.statuses.pop(0), b"later", **{"Retry-After": "7"})
            return
        start = 0
        asked = self.headers.get("Range")
        if asked and plan.ranges and self.headers.get("If-Range") == plan.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(plan.content):
                size = {"Content-Range": f"bytes */{len(plan.content)}"}
                self.answer(416, b"", **size)
                return
        body = plan.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", plan.tag)
        self.send_header("Content-Length", str(len(body)))
        if start:
            whole = len(plan.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        limit = plan.break_after.pop(0) if plan.break_after else len(body)
        step = 1000 if plan.trickle else len(body) or 1
        sent = body[:limit]
        # counted first: the client may be done before this thread goes on
        plan.served += len(sent)
        for first in range(0, len(sent), step):
            self.wfile.write(sent[first : first + step])
            self.wfile.flush()
        if limit < len(body):
            self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Any]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.plan = Plan()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{made.server_port}"
    yield SimpleNamespace(plan=made.plan, url=lambda path: f"{address}{path}")  # type: ignore[attr-defined]
    made.shutdown()
    thread.join()
    made.server_close()


def get(server: Any, part: Path, path: str = "/file.bin", **more: Any) -> list[float]:
    waits: list[float] = []
    transfer.download(server.url(path), part, sleep=waits.append, **more)
    return waits


def test_a_connection_lost_three_times_is_resumed_each_time(server: Any, tmp_path: Path) -> None:
    server.plan.break_after = [100_000, 50_000, 200_000]
    part = tmp_path / "file.bin.part"
    get(server, part)
    assert part.read_bytes() == CONTENT
    # every byte was sent once: that is what resuming means
    assert server.plan.served == len(CONTENT)
    ranges = [asked.partition("bytes=")[2] for asked in server.plan.asked]
    assert ranges == ["", "100000-", "150000-", "350000-"]


def test_a_later_call_resumes_the_part_of_an_earlier_one(server: Any, tmp_path: Path) -> None:
    server.plan.break_after = [1000] * transfer.ATTEMPTS
    part = tmp_path / "file.bin.part"
    with pytest.raises(DownloadError, match=rf"{transfer.ATTEMPTS} attempts"):
        get(server, part)
    assert part.stat().st_size == 1000 * transfer.ATTEMPTS
    get(server, part)
    assert part.read_bytes() == CONTENT
    assert server.plan.served == len(CONTENT)


def test_a_complete_part_is_not_downloaded_again(server: Any, tmp_path: Path) -> None:
    part = tmp_path / "file.bin.part"
    get(server, part)
    get(server, part)
    assert server.plan.served == len(CONTENT)
    assert part.read_bytes() == CONTENT


def test_without_ranges_the_download_starts_over(server: Any, tmp_path: Path) -> None:
    server.plan.ranges = False
    server.plan.break_after = [1000]
    get(server, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == CONTENT
    assert server.plan.served == len(CONTENT) + 1000


def test_if_the_file_has_changed_the_download_starts_over(server: Any, tmp_path: Path) -> None:
    server.plan.break_after = [1000] * transfer.ATTEMPTS
    with pytest.raises(DownloadError):
        get(server, tmp_path / "p")
    server.plan.content, server.plan.tag = CONTENT[::-1], '"two"'
    get(server, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == CONTENT[::-1]


def test_a_part_of_another_url_is_not_resumed(server: Any, tmp_path: Path) -> None:
    server.plan.break_after = [1000] * transfer.ATTEMPTS
    with pytest.raises(DownloadError):
        get(server, tmp_path / "p")
    get(server, tmp_path / "p", "/file.bin?other")
    assert (tmp_path / "p").read_bytes() == CONTENT


def test_waits_double_unless_the_server_names_a_time(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(transfer, "LONGEST_WAIT", 60.0)
    server.plan.statuses = [503, 429]
    server.plan.break_after = [10, 10]
    assert get(server, tmp_path / "p") == [7.0, 7.0, 4.0, 8.0]
    assert (tmp_path / "p").read_bytes() == CONTENT


def test_redirects_and_slow_connections_work(server: Any, tmp_path: Path) -> None:
    server.plan.trickle = True
    get(server, tmp_path / "p", "/moved")
    assert (tmp_path / "p").read_bytes() == CONTENT


def test_a_missing_file_is_requested_once(server: Any, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="404"):
        get(server, tmp_path / "p", "/gone")
    assert server.plan.asked == ["/gone"]


def test_progress_includes_the_resumed_part(server: Any, tmp_path: Path) -> None:
    server.plan.break_after = [100_000]
    seen: list[tuple[str, int, int | None]] = []
    get(server, tmp_path / "p", progress=lambda *step: seen.append(step))
    assert seen[0] == ("file.bin", 0, len(CONTENT))
    assert ("file.bin", 100_000, len(CONTENT)) in seen
    assert seen[-1] == ("file.bin", len(CONTENT), len(CONTENT))


def test_a_lack_of_disk_space_is_noticed_before_downloading(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("dartcli.data.transfer.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(DartError, match=r"512,500 bytes, 1,000 are free"):
        get(server, tmp_path / "p", room=500)
    assert not (tmp_path / "p").exists()


def dataset(*urls: str, **more: Any) -> Dataset:
    return Dataset(
        name="toy",
        title="toy",
        license="none",
        citation="none",
        homepage="none",
        files=(SourceFile("toy/file.bin", urls, **({"sha256": SHA} | more)),),
        options=DataOptions,
        read=lambda _folder, _options: pl.LazyFrame(),
    )


def left(home: Path) -> list[str]:
    folder = home / "raw/toy"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_after_a_checksum_mismatch_the_next_url_is_tried(home: Path, server: Any) -> None:
    folder = fetch_dataset(
        dataset(server.url("/gone"), server.url("/other"), server.url("/file.bin"))
    )
    assert (folder / "toy/file.bin").read_bytes() == CONTENT
    assert left(home) == ["download.json", "toy/file.bin"]


def test_if_every_url_fails_each_failure_is_named(home: Path, server: Any) -> None:
    with pytest.raises(DownloadError) as error:
        fetch_dataset(dataset(server.url("/gone"), server.url("/other")))
    message = str(error.value)
    assert all(value in message for value in ("/gone", "404", "/other", SHA, "--from"))
    assert left(home) == []


def test_an_interrupted_download_is_resumed_from_its_part(
    home: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = dataset(server.url("/file.bin"))

    def interrupt(_name: str, done: int, _total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "CHUNK", 10_000)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset(toy, progress=interrupt)
    assert left(home) == ["toy/file.bin.part", "toy/file.bin.part.json"]
    # how much one read returns is the network's business
    here = next(home.rglob("file.bin.part")).stat().st_size
    assert 0 < here < len(CONTENT)
    folder = fetch_dataset(toy)
    assert (folder / "toy/file.bin").read_bytes() == CONTENT
    assert server.plan.asked[-1] == f"/file.bin bytes={here}-"
    assert left(home) == ["download.json", "toy/file.bin"]


def test_an_archive_with_another_checksum_is_rejected(home: Path, server: Any) -> None:
    with pytest.raises(DownloadError, match=f"{SHA}, expected {'0' * 64}"):
        fetch_dataset(dataset(server.url("/file.bin"), sha256=None, archive_sha256="0" * 64))
    assert left(home) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda info: setattr(info, "external_attr", 0o120777 << 16),
        lambda info: setattr(info, "flag_bits", 0x1),
    ],
    ids=["link", "encrypted"],
)
def test_links_and_encrypted_members_are_rejected(
    home: Path, tmp_path: Path, make: Any, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("toy/file.bin")
        make(info)
        archive.writestr(info, "/etc/passwd")
    if "encrypted" in request.node.name:
        raw = bytearray(path.read_bytes())
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(raw)
    with pytest.raises(DownloadError, match=r"evil\.zip"):
        fetch_dataset(dataset(sha256=None), str(path))
    assert left(home) == []


def test_only_the_wanted_member_is_extracted(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside.txt", "x")
        archive.writestr("/etc/outside.txt", "x")
        archive.writestr("toy/file.bin", CONTENT)
    fetch_dataset(dataset(), str(path))
    assert left(home) == ["download.json", "toy/file.bin"]
    assert not list(tmp_path.rglob("outside.txt"))


def test_extraction_stops_at_the_size_limit(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/file.bin", b"\0" * 10_000_000)
    with pytest.raises(DownloadError, match="1,000,000 bytes"):
        fetch_dataset(dataset(sha256=None, limit=1_000_000), str(path))
    assert left(home) == []


def fetch_in_process(url: str) -> int:
    return len((fetch_dataset(dataset(url)) / "toy/file.bin").read_bytes())


def test_concurrent_processes_download_once(home: Path, server: Any) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sizes = pool.map(fetch_in_process, [server.url("/file.bin")] * 2, chunksize=1)
    assert sizes == [len(CONTENT)] * 2
    assert server.plan.served == len(CONTENT)
    assert left(home) == ["download.json", "toy/file.bin"]
