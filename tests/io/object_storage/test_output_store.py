"""Object storage as input: addresses, folders, globs and every format as from a disk; errors; copies of token shards."""

import bz2
import gzip
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq
import pytest

from gptctl.core.errors import DataError, GptctlError, MachineError, UsageError
from gptctl.core.summary import Counts
from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.shard_format import MAPPED
from gptctl.io.dataset.tokens import flat_parts, open_tokens
from gptctl.io.files import content_hash, object_fingerprint, open_seekable, plain_path, split_suffixes
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.find import find_files
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.predictions import read_predictions
from gptctl.io.input.read_task import read_task
from gptctl.io.object_storage import address, fetch_tokens
from gptctl.io.object_storage.address import Address
from gptctl.pipeline.data_splits import find_splits
from tests.conftest import documents
from tests.object_storage import Storage, log_in, serve

NAMES = ["b.jsonl", "a/x.txt", "a-b/x.txt", "a/.hidden.txt", ".git/config", "a b/q?#%é.txt", "A.md", "a/deep/er/y.txt"]


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with serve() as found:
        yield found


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Know the server's keys."""
    log_in(monkeypatch, tmp_path / "cache")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.mark.parametrize(
    ("uri", "path", "login"),
    [
        ("s3://b/a/c.jsonl", "b/a/c.jsonl", ("", "")),
        ("s3://b/a b/", "b/a b", ("", "")),
        ("s3://b/a%20b%3F?region=x", "b/a b?", ("", "")),
        ("s3://b/me@home:1/x", "b/me@home:1/x", ("", "")),
        ("s3://K:S%2FT@b/x", "b/x", ("K", "S/T")),
        ("s3://K:S/T+U@b/x@y", "b/x@y", ("K", "S/T+U")),
        ("gs://b/x", "b/x", ("", "")),
    ],
)
def test_addresses(uri: str, path: str, login: tuple[str, str]) -> None:
    address = Address.parse(uri)
    assert (address.path, (address.user, address.password)) == (path, login)
    assert Address.parse(str(address)) == address


def test_addresses_of_what_lies_below() -> None:
    assert address.join("s3://K:S@b/x/?region=r", "shards/a.arrow") == "s3://K:S@b/x/shards/a.arrow?region=r"
    assert address.join(Path("x"), "y") == address.join("x", "y") == "x/y"
    assert split_suffixes("s3://b/a.jsonl.gz?endpoint_override=h:1") == (".jsonl", "gzip")
    assert plain_path("file:///tmp/a%20b") == "/tmp/a b"
    for wrong in ("s3://", "s3:///", "://x"):
        with pytest.raises(UsageError):
            Address.parse(wrong)


@pytest.fixture
def twins(server: Storage, tmp_path: Path) -> tuple[Path, str]:
    """The same files in a folder and in a bucket."""
    bucket = server.bucket()
    for name in NAMES:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
        server.put(f"{bucket}/in/{name}", name.encode())
    return tmp_path / "in", bucket


@pytest.mark.parametrize(
    "pattern",
    ["", "/a", "/b.jsonl", "/a b/q?#%é.txt", "/*", "/*.jsonl", "/a*/*.txt", "/**", "/**/*.txt", "/**/x.txt", "/a/**/y.txt",
     "/[ab]*", "/.*/*"],
)  # fmt: skip
def test_folders_and_globs_are_as_on_disk(server: Storage, twins: tuple[Path, str], pattern: str) -> None:
    folder, bucket = twins
    uri = server.uri(f"{bucket}/in{pattern.replace('%', '%25').replace('?', '%3F')}")
    local, remote = find_files(f"{folder}{pattern}"), find_files(uri)
    assert [(file.name, file.size) for file in remote] == [(file.name, file.size) for file in local]
    assert [Address.parse(file.path).path.removeprefix(f"{bucket}/in/") for file in remote] == [
        str(Path(file.path).relative_to(folder)) for file in local
    ]
    for file in remote:
        assert content_hash(file.path) == content_hash(str(folder / Address.parse(file.path).path.split("/in/")[1]))


def test_file_uris_are_local_paths(twins: tuple[Path, str]) -> None:
    folder, _ = twins
    assert find_files(folder.as_uri()) == find_files(str(folder))
    assert [file.name for file in find_files(f"file://{folder}/a/*.txt")] == ["x.txt"]


def every_format() -> dict[str, bytes]:
    """Make a file of each format, in part larger than what one request fetches."""
    rows = documents(300, words=900)
    table = pa.Table.from_pylist(rows)
    lines = "".join(json.dumps({"text": row["text"]}) + "\n" for row in rows).encode()
    parquet, csv, arrow = io.BytesIO(), io.BytesIO(), io.BytesIO()
    papq.write_table(table, parquet, row_group_size=40)
    pacsv.write_csv(table, csv)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    page = "<html><body><p>A page about object storage.</p></body></html>"
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{page}"
    warc = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://h/{{}}\r\nWARC-Record-ID: <urn:uuid:{{}}>\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: {len(answer)}\r\n\r\n{answer}\r\n\r\n"
    return {
        "lines.jsonl": lines * 2, "packed.jsonl.gz": gzip.compress(lines), "packed.txt.bz2": bz2.compress(b"Text."),
        "table.parquet": parquet.getvalue(), "table.csv": csv.getvalue(), "table.arrow": arrow.getvalue(),
        "page.html": page.encode(), "notes.md": b"# Notes", "empty.txt": b"",
        "crawl.warc": "".join(warc.format(i, i) for i in range(300)).encode(),
        "crawl2.warc.gz": gzip.compress("".join(warc.format(i, i) for i in range(3)).encode()),
        "list.json": b'[{"text": "one"}, {"text": "two"}, {"no": 1}]',
    }  # fmt: skip


def test_every_format_gives_the_same_tasks_and_documents_as_from_disk(server: Storage, tmp_path: Path) -> None:
    bucket = server.bucket()
    (tmp_path / "in").mkdir()
    for name, data in every_format().items():
        (tmp_path / "in" / name).write_bytes(data)
        server.put(f"{bucket}/{name}", data)
    local, remote = (Inputs((place,), ReadOptions()) for place in (str(tmp_path / "in"), server.uri(bucket)))
    tasks = [list(inputs.tasks()) for inputs in (local, remote)]
    assert len(tasks[0]) > 3
    for ours, theirs in zip(*tasks, strict=True):
        assert ours.key() == theirs.key()
        (table, bad, *_), (other, other_bad, *_) = (read_task(task, ReadOptions()) for task in (ours, theirs))
        assert table.equals(other)
        assert bad == other_bad


def test_fingerprints_follow_the_content(server: Storage) -> None:
    bucket = server.bucket()
    server.put(f"{bucket}/a.txt", b"one")
    before = Inputs((server.uri(bucket),), ReadOptions()).fingerprints()
    assert before == {"a.txt": object_fingerprint(server.uri(f"{bucket}/a.txt"))}
    assert before["a.txt"].startswith("3 B, ETag ")
    server.put(f"{bucket}/a.txt", b"one")
    assert Inputs((server.uri(bucket),), ReadOptions()).fingerprints() == before
    server.put(f"{bucket}/a.txt", b"two")
    assert Inputs((server.uri(bucket),), ReadOptions()).fingerprints() != before


def test_what_is_wrong_with_a_uri_is_said(server: Storage) -> None:
    bucket = server.bucket()
    for uri, what in (
        (server.uri("no-such-bucket"), "no such bucket"),
        (server.uri("no-such-bucket/x.jsonl"), "no such bucket"),
        (server.uri(f"{bucket}/x.jsonl"), "no such file or folder"),
        (server.uri(f"{bucket}/*.jsonl"), "no such file or folder"),
        (server.uri("*/x.jsonl"), "wildcard in the bucket's name"),
        (f"s3://{bucket}/x?endpoint=h", "unknown parameter 'endpoint'"),
        ("s3://K:***@b/x", "was hidden when it was written down"),
        ("fpt://host/x", "cannot open fpt://host/x"),
    ):
        with pytest.raises(UsageError, match=what.replace("*", r"\*")):
            Inputs((uri,), ReadOptions())
    with pytest.raises(DataError, match="holds no file"):
        server.system.create_dir(f"{bucket}/nothing")
        find_files(server.uri(f"{bucket}/nothing"))


def test_refused_requests_are_errors_of_the_machine(server: Storage) -> None:
    bucket = server.bucket()
    server.put(f"{bucket}/a.jsonl.gz", gzip.compress(b'{"text": "x"}\n'))
    inputs = Inputs((server.uri(f"{bucket}/a.jsonl.gz"),), ReadOptions())
    with server.closed():
        with pytest.raises(MachineError, match="access denied"):
            Inputs((server.uri(f"{bucket}/a.jsonl.gz"),), ReadOptions())
        with pytest.raises(MachineError, match="access denied"):
            list(inputs.tasks())  # not "damaged": the file is as good as it was
    server.put(f"{bucket}/a.jsonl.gz", b"no gzip")
    with pytest.raises(DataError, match="Not a gzipped file"):
        read_task(next(inputs.tasks()), ReadOptions())


def test_a_dead_endpoint_is_given_up() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(MachineError, match="object storage does not answer") as caught:
            find_files(f"s3://b/x?endpoint_override=127.0.0.1:{nobody.getsockname()[1]}&scheme=http")
    assert "endpoint_override" in str(caught.value.hint)


@pytest.mark.slow
def test_an_endpoint_that_says_nothing_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(MachineError, match="object storage does not answer"),
    ):
        find_files(f"s3://b/x?endpoint_override=127.0.0.1:{silent.getsockname()[1]}&scheme=http")


def test_a_window_makes_one_request_of_many(server: Storage) -> None:
    bucket = server.bucket()
    server.put(f"{bucket}/x", bytes(range(256)) * 1000)
    with open_seekable(server.uri(f"{bucket}/x"), 2**16) as file:
        file.seek(1000)
        first = file.read(10)
        server.put(f"{bucket}/x", b"\0" * 256_000)
        file.seek(1010)
        assert first + file.read(100) == (bytes(range(256)) * 5)[1000:1110]
        file.seek(200_000)
        assert file.read(10) == b"\0" * 10


def token_folder(folder: Path) -> manifest.Manifest:
    """Write a small folder of tokens."""
    made = []
    for number in range(3):
        lists = pa.array([[number, 1, 2], [3]], pa.large_list(pa.uint16()))
        path = f"shards/train/part-{number:05d}.arrow"
        made.append(shards.write_shard(folder, path, pa.table({"tokens": lists}), MAPPED))
    (folder / "tokenizer.json").write_text("{}")
    found = manifest.Manifest("tokens", "tokenize", {}, {}, tuple(made), Counts(), {"vocab_size": 4}, "t")
    found.write(folder)
    return found


def test_tokens_are_copied_once_and_verified(server: Storage, tmp_path: Path) -> None:
    bucket = server.bucket()
    token_folder(tmp_path / "tokens")
    for path in (tmp_path / "tokens").rglob("*"):
        if path.is_file():
            server.put(f"{bucket}/tokens/{path.relative_to(tmp_path / 'tokens')}", path.read_bytes())
    uri = server.uri(f"{bucket}/tokens")
    opened = open_tokens(uri)
    assert [part[:].tolist() for part in flat_parts(opened.folder, "train")] == [[n, 1, 2, 3] for n in range(3)]
    copies = sorted(opened.folder.rglob("*.arrow"))
    kept = copies[0].stat().st_mtime_ns
    copies[1].write_bytes(b"x" * copies[1].stat().st_size)
    copies[2].unlink()
    assert open_tokens(uri).folder == opened.folder
    assert copies[0].stat().st_mtime_ns == kept
    assert [part[:].tolist() for part in flat_parts(opened.folder, "train")] == [[n, 1, 2, 3] for n in range(3)]
    copies[1].unlink()
    server.put(f"{bucket}/tokens/shards/train/part-00001.arrow", b"x" * 10)
    with pytest.raises(DataError, match=r"shard is cut: s3://.*part-00001.arrow"):
        open_tokens(uri)
    assert not copies[1].exists()
    with pytest.raises(UsageError, match="no such folder"):
        open_tokens(server.uri(f"{bucket}/other"))


def test_a_copy_lacks_nothing(server: Storage, tmp_path: Path) -> None:
    bucket = server.bucket()
    found = token_folder(tmp_path / "tokens")
    for shard in found.shards:
        server.put(f"{bucket}/{shard.path}", (tmp_path / "tokens" / shard.path).read_bytes())
    with pytest.raises(DataError, match=r"tokenizer.json.* is absent"):
        fetch_tokens.fetch_tokens(server.uri(bucket), found)


def test_splits_and_predictions(server: Storage) -> None:
    bucket = server.bucket()
    for name in ("data/train.jsonl", "data/val/a.jsonl", "data/test.jsonl.gz"):
        server.put(f"{bucket}/{name}", b"")
    named = find_splits(server.uri(f"{bucket}/data")).named
    assert {split: Address.parse(place).path for split, place in named.items()} == {
        "train": f"{bucket}/data/train.jsonl",
        "val": f"{bucket}/data/val",
        "test": f"{bucket}/data/test.jsonl.gz",
    }
    assert set(find_splits(server.uri(f"{bucket}/data/test.jsonl.gz")).named) == {"test"}
    server.put(f"{bucket}/predictions.jsonl", b'{"id": 1, "label": "a", "pred": "b"}\n')
    assert read_predictions(server.uri(f"{bucket}/predictions.jsonl")).rows == [{"id": 1, "label": "a", "pred": "b"}]
    with pytest.raises(GptctlError) as caught:
        read_predictions(server.uri(f"{bucket}/nothing.jsonl"))
    assert caught.value.exit_code == 2


def test_keys_that_cannot_be_opened_are_quarantined(server: Storage, tmp_path: Path) -> None:
    """Object stores allow keys with empty parts, and pyarrow does not."""
    bucket = server.bucket()
    headers = {"Content-Type": "application/octet-stream"}
    for key in ("j/a.jsonl", "j//b.jsonl", "j/c/d.jsonl"):
        request = Request(f"http://{server.host}/{bucket}/{key}", b'{"text": "Some words."}\n', headers, method="PUT")
        urlopen(request).close()
    for argument in ("j", "j/**"):
        found = [
            read_task(task, ReadOptions())
            for task in Inputs((server.uri(f"{bucket}/{argument}"),), ReadOptions()).tasks()
        ]
        unreadable = [bad for result in found for bad in result.unreadable]
        assert sum(len(result.documents) for result in found) == 2
        assert [bad.reason.partition(",")[0] for bad in unreadable] == ["a key with an empty part"]
