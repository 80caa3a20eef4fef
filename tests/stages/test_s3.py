"""The data stages from and to object storage: the bytes of a local run, resumed when killed, no secret written down."""

import gzip
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, DataError, GptctlError, StoppedError, UsageError
from gptctl.core.run_folder import open_run
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.stages.clean import Clean
from gptctl.stages.clean import run as clean
from gptctl.stages.dedup import Dedup
from gptctl.stages.dedup import run as dedup
from gptctl.stages.eval import Eval
from gptctl.stages.eval import run as evaluate
from gptctl.stages.inspect import Inspect
from gptctl.stages.inspect import run as inspect
from gptctl.stages.tokenize import Tokenize
from gptctl.stages.tokenize import run as tokenize
from tests.conftest import Ran, documents, run_gptctl, tree_bytes, warm, write_jsonl
from tests.object_storage import KEY, SECRET, Storage, log_in, serve

RECORDS = ("run.json", "events.jsonl", "log.txt", "config.toml")
Gptctl = Callable[..., Ran]


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with serve() as found:
        yield found


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Know the server's keys."""
    log_in(monkeypatch, tmp_path / "cache")


@pytest.fixture
def gptctl(tmp_path: Path) -> Gptctl:
    """Run gptctl in the test's own folder, with its cache."""

    def run(*args: object, **more: Any) -> Ran:
        return run_gptctl(*args, cwd=tmp_path, GPTCTL_CACHE=str(tmp_path / "cache"), **more)

    return run


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two shard tasks: JSON lines of irregular columns, packed ones, a page, and a broken line."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    (folder / "more").mkdir(parents=True)
    rows = documents(310, words=900)
    write_jsonl(folder / "a.jsonl", [row | {"number": i} for i, row in enumerate(rows[:250])])
    lines = "".join(json.dumps(row) + "\n" for row in rows[250:])
    (folder / "more" / "b.jsonl.gz").write_bytes(gzip.compress(("{broken\n" + lines).encode()))
    (folder / "page.html").write_text(f"<html><body><h1>Page</h1><p>{rows[0]['text']}</p></body></html>")
    return folder


@pytest.fixture(scope="module")
def local(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages make of the corpus on this machine: clean, unique, tokens."""
    folder = tmp_path_factory.mktemp("local")
    clean(Clean(inputs=(str(raw),), out=str(folder / "clean"), max_bad=0.1, executor="serial"))
    dedup(Dedup(inputs=(str(folder / "clean"),), out=str(folder / "unique"), executor="serial"))
    tokenize(Tokenize(inputs=(str(folder / "unique"),), out=str(folder / "tokens"), vocab_size=320, executor="serial"))
    return folder


@pytest.fixture
def bucket(server: Storage, raw: Path) -> str:
    """A bucket with the corpus below raw/."""
    name = server.bucket()
    for path in raw.rglob("*"):
        if path.is_file():
            server.put(f"{name}/raw/{path.relative_to(raw)}", path.read_bytes())
    return name


def outcome(tree: dict[str, bytes]) -> dict[str, Any]:
    """Leave out the records of how an output was made; of the manifest, how files in object storage are told apart."""
    found: dict[str, Any] = {name: data for name, data in tree.items() if name not in RECORDS}
    found["manifest.json"] = json.loads(found["manifest.json"])
    if "documents" not in found["manifest.json"]["inputs"]:
        found["manifest.json"]["inputs"] = list(found["manifest.json"]["inputs"])
        del found["manifest.json"]["xxh3_128"]
    return found


def test_the_chain_gives_the_bytes_of_a_local_run(
    server: Storage, bucket: str, local: Path, gptctl: Gptctl, tmp_path: Path
) -> None:
    for command in (
        ["clean", f"{bucket}/raw", "-o", f"{bucket}/clean", "--set", "max_bad=0.1", "--workers", "2"],
        ["dedup", f"{bucket}/clean", "-o", f"{bucket}/unique", "--workers", "2"],
        ["tokenize", f"{bucket}/unique", "-o", f"{bucket}/tokens", "--vocab-size", "320"],
    ):
        done = gptctl(*(server.uri(part) if part.startswith(bucket) else part for part in command), "--json")
        assert done.code == 0, done.err
        assert done.json["outputs"] == [server.uri(command[3])]
    for name in ("clean", "unique", "tokens"):
        there = server.tree(f"{bucket}/{name}")
        assert outcome(there) == outcome(tree_bytes(local / name))
        assert set(RECORDS) - set(there) <= {"log.txt"}
        assert json.loads(there["run.json"])["status"] == "done"
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.name for path in left} == {".lock"}
    # From there to here, and pipes, mixed.
    tokenize(
        Tokenize(
            inputs=(server.uri(f"{bucket}/unique"),), out=str(tmp_path / "tokens"), vocab_size=320, executor="serial"
        )
    )
    assert tree_bytes(tmp_path / "tokens") == tree_bytes(local / "tokens")


def test_globs_files_and_limits(server: Storage, bucket: str, raw: Path, tmp_path: Path) -> None:
    for number, (pattern, limit) in enumerate((("/*.jsonl", 0), ("/**/*.gz", 0), ("/a.jsonl", 0), ("", 5))):
        made: list[dict[str, Any]] = []
        for place in (f"{raw}{pattern}", server.uri(f"{bucket}/raw{pattern}")):
            out = tmp_path / f"{number}-{len(made)}"
            clean(Clean(inputs=(place,), out=str(out), limit=limit, max_bad=0.1, executor="serial"))
            made.append(outcome(tree_bytes(out)))
        assert made[0] == made[1]
        assert made[0]["manifest.json"]["counts"]["kept"]


def run_clean(server: Storage, bucket: str, out: str = "clean", force: bool = False, **more: Any) -> str:
    """Clean the bucket's corpus into the bucket, in this process; give the status."""
    config = Clean(
        inputs=(server.uri(f"{bucket}/raw"),), out=server.uri(f"{bucket}/{out}"), max_bad=0.1, executor="serial", **more
    )
    return clean(config, Context(force=force)).status


def test_up_to_date_conflicts_and_force(server: Storage, bucket: str, local: Path, tmp_path: Path) -> None:
    assert run_clean(server, bucket) == "done"
    before = server.written(f"{bucket}/clean")
    assert run_clean(server, bucket) == "up to date"
    shutil.rmtree(tmp_path / "cache")  # another machine sees the same
    assert run_clean(server, bucket) == "up to date"
    assert server.written(f"{bucket}/clean") == before
    with pytest.raises(ConflictError, match=rf"s3://{bucket}/clean\S* was made with other settings: pii \(was False"):
        run_clean(server, bucket, pii=True)
    server.put(f"{bucket}/raw/new.txt", b"A new document, which is long enough to be one that is kept as such.")
    with pytest.raises(ConflictError, match=r"from other input: new.txt"):
        run_clean(server, bucket)
    server.system.delete_file(f"{bucket}/raw/new.txt")
    with pytest.raises(ConflictError, match="was made by 'gptctl clean'"):
        dedup(Dedup(inputs=(server.uri(f"{bucket}/raw"),), out=server.uri(f"{bucket}/clean"), executor="serial"))
    assert server.written(f"{bucket}/clean") == before
    server.put(f"{bucket}/clean/shards/part-09999.arrow", b"of an older run")
    assert run_clean(server, bucket, force=True, preset="none") == "done"
    assert "shards/part-09999.arrow" not in server.written(f"{bucket}/clean")
    assert run_clean(server, bucket, force=True) == "done"
    assert outcome(server.tree(f"{bucket}/clean")) == outcome(tree_bytes(local / "clean"))


def test_what_is_damaged_there_is_made_again(server: Storage, bucket: str, local: Path) -> None:
    run_clean(server, bucket)
    server.put(f"{bucket}/clean/shards/part-00001.arrow", b"cut")
    assert run_clean(server, bucket) == "done"
    assert outcome(server.tree(f"{bucket}/clean")) == outcome(tree_bytes(local / "clean"))


def test_a_place_with_other_files_or_within_the_input_is_refused(server: Storage, bucket: str) -> None:
    server.put(f"{bucket}/thesis/chapter.txt", b"mine")
    for force in (False, True):
        with pytest.raises(ConflictError, match="holds files that gptctl did not make"):
            run_clean(server, bucket, "thesis", force)
    assert server.tree(f"{bucket}/thesis") == {"chapter.txt": b"mine"}
    with pytest.raises(UsageError, match="lies inside the input"):
        run_clean(server, bucket, "raw/out")


@dataclass(frozen=True)
class Killable:
    """A command that cleans the bucket's corpus into the bucket, to be killed at some file operation and run again."""

    server: Storage
    bucket: str
    gptctl: Gptctl
    cache: Path

    def run(self, **environment: str) -> Ran:
        """Run the command, in one process."""
        places = (self.server.uri(f"{self.bucket}/{name}") for name in ("raw", "clean"))
        return self.gptctl(
            "clean", next(places), "-o", next(places), "--set", "max_bad=0.1", "--executor", "serial", **environment
        )

    def kill_and_resume(self, operation: int) -> set[str] | None:
        """Return the names of the files that had arrived when it was killed; None where it came to its end before.

        It must leave either no dataset or a whole one, and must not send again what arrived.
        """
        killed = self.run(fault=f"kill:{operation}")
        if killed.code == 0:
            return None
        assert killed.code == -9, killed.err
        there = self.server.written(f"{self.bucket}/clean")
        if "manifest.json" not in there and "run.json" in there:
            with pytest.raises(DataError, match="is an unfinished output of gptctl clean"):
                Inputs((self.server.uri(f"{self.bucket}/clean"),), ReadOptions())
        logs = [json.loads(line) for log in self.cache.rglob("sent.jsonl") for line in log.read_text().splitlines()]
        again = self.run()
        assert again.code == 0, again.err
        after = self.server.written(f"{self.bucket}/clean")
        for name, _ in logs:
            assert name in RECORDS or after[name] == there[name], f"{name} was sent again"
        assert {path.name for path in self.cache.rglob("*") if path.is_file()} == {".lock"}
        return set(there)


@pytest.fixture
def killable(server: Storage, bucket: str, gptctl: Gptctl, tmp_path: Path) -> Killable:
    return Killable(server, bucket, gptctl, tmp_path / "cache")


def test_killed_and_resumed(killable: Killable, local: Path) -> None:
    """Killed once some shards have arrived: at which operation that is depends on how fast they are sent."""
    for operation in itertools.count(34, 3):
        found = killable.kill_and_resume(operation)
        assert found is not None
        assert outcome(killable.server.tree(f"{killable.bucket}/clean")) == outcome(tree_bytes(local / "clean"))
        assert "manifest.json" not in found
        if any(name.startswith("shards/") for name in found):
            break
        killable.server.system.delete_dir(f"{killable.bucket}/clean")


def test_stopped_while_files_are_sent(server: Storage, bucket: str, local: Path) -> None:
    context = Context()

    def stop_at_once(done: float, total: float | None, unit: str, note: str = "") -> None:
        if unit == "files uploaded":
            context.stop.signal_number = 15

    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        clean(
            Clean(
                inputs=(server.uri(f"{bucket}/raw"),), out=server.uri(f"{bucket}/clean"), max_bad=0.1, executor="serial"
            ),
            replace(context, progress=stop_at_once),
        )
    assert "manifest.json" not in server.written(f"{bucket}/clean")
    assert run_clean(server, bucket) == "done"
    assert outcome(server.tree(f"{bucket}/clean")) == outcome(tree_bytes(local / "clean"))


def test_another_machine_takes_over_or_is_refused(
    killable: Killable, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, bucket = killable.server, killable.bucket
    assert killable.run(fault="kill:34").code == -9
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path / "other machine"))
    with pytest.raises(ConflictError, match="was made with other settings: pii"):
        run_clean(server, bucket, pii=True)
    assert run_clean(server, bucket) == "done"
    assert outcome(server.tree(f"{bucket}/clean")) == outcome(tree_bytes(local / "clean"))
    monkeypatch.setenv("GPTCTL_CACHE", str(killable.cache))  # which still has its half of the work
    before = server.written(f"{bucket}/clean")
    assert run_clean(server, bucket) == "up to date"
    assert server.written(f"{bucket}/clean") == before


@pytest.mark.slow
def test_killed_at_any_operation(killable: Killable, local: Path) -> None:
    operation = 1
    while killable.kill_and_resume(operation) is not None:
        assert outcome(killable.server.tree(f"{killable.bucket}/clean")) == outcome(tree_bytes(local / "clean"))
        killable.server.system.delete_dir(f"{killable.bucket}/clean")
        operation += 3
    assert operation > 40


def everything_written(folder: Path, done: Ran, *trees: dict[str, bytes]) -> bytes:
    """Put together what a command printed, and all files, here and there."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([done.out, done.err.encode(), *files, *(data for tree in trees for data in tree.values())])


def test_no_secret_is_written_down(
    server: Storage, bucket: str, gptctl: Gptctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    secret, login = SECRET, f"{KEY}:{SECRET}@"
    source, out = server.uri(f"{bucket}/raw/page.html", login), server.uri(f"{bucket}/clean", login)
    common, index = ("--executor", "serial", "--json"), ("--index", "datasketch", "--set")
    for command, code in (
        (("clean", source, "-o", out), 0),
        (("clean", source, "-o", out, "--pii"), 5),
        (("clean", source, "-o", out, "--print-config"), 0),
        (("clean", source, "-o", "local2", "--text-column", "nothing", "--set", f"decontaminate={out}x"), 2),
        (("dedup", source, "-o", "unique", *index, f"redis=redis://me:{secret}@127.0.0.1:9/0"), 2),
        (("dedup", source, "-o", "unique2", *index, f"redis=redis://127.0.0.1:9/0?password={secret}"), 4),
        (("pretrain", "nothing", "-o", out), 2),
    ):  # fmt: skip
        done = gptctl(*command, *common)
        assert done.code == code, (command, done.err)
        assert secret.encode() not in everything_written(tmp_path, done), command
    there = server.tree(bucket)
    assert secret.encode() not in b"".join(there.values())
    assert f"s3://{KEY}:***@{bucket}/raw/page.html" in there["clean/config.toml"].decode()
    assert f"s3://{KEY}:***@{bucket}/clean" in there["clean/run.json"].decode()
    assert "redis://me:***@127.0.0.1:9/0" in (tmp_path / "unique" / "config.toml").read_text()
    assert "redis://127.0.0.1:9/0?password=***" in (tmp_path / "unique2" / "run.json").read_text()


def test_a_traceback_shows_no_secret(tmp_path: Path) -> None:
    command = ["clean", f"s4://K:{SECRET}@b/x", "-o", "out", "--debug"]  # Arrow's own message names the URI
    done = subprocess.run([*warm("gptctl"), *command], capture_output=True, cwd=tmp_path)
    assert b"Traceback" in done.stderr
    assert SECRET.encode() not in done.stderr
    assert b"Unrecognized filesystem type in URI: s4://K:***@b/x" in done.stderr


def test_wrong_places_are_told(server: Storage, bucket: str, tmp_path: Path) -> None:
    def error_of(source: str, out: str) -> GptctlError:
        with pytest.raises(GptctlError) as caught:
            clean(Clean(inputs=(source,), out=out, executor="serial"))
        assert caught.value.hint
        return caught.value

    page, here = server.uri(f"{bucket}/raw/page.html"), str(tmp_path / "out")
    dead = f"s3://{bucket}/x?endpoint_override=127.0.0.1:9&scheme=http"
    for source, out, code, what in (
        (server.uri("no-such-bucket/x"), here, 2, "no such bucket"),
        (page, server.uri("no-such-bucket/x"), 2, "no such bucket"),
        (page, dead, 4, "does not answer"),
        (page, f"s3://{bucket}/x?nothing=1", 2, "unknown parameter 'nothing'"),
    ):
        error = error_of(source, out)
        assert error.exit_code == code
        assert what in error.message
    local = tmp_path / "local.txt"
    local.write_text("A document.")
    with server.closed():
        for source, out in ((page, here), (str(local), server.uri(f"{bucket}/out"))):
            error = error_of(source, out)
            assert (error.exit_code, "access denied" in error.message) == (4, True)
    run = open_run(Path(server.uri(f"{bucket}/run")), Clean(inputs=()), Context())
    with pytest.raises(UsageError, match="writes to a folder of this machine"), run:
        pass


def test_an_error_is_one_line_with_a_hint(server: Storage, gptctl: Gptctl) -> None:
    done = gptctl("clean", server.uri("no-such-bucket/x"), "-o", "out")
    assert (done.code, len(done.error_lines), len(done.err.splitlines())) == (2, 2, 2)


def test_file_uris(raw: Path, local: Path, tmp_path: Path) -> None:
    out = (tmp_path / "out of it").as_uri()
    assert "%20" in out
    clean(Clean(inputs=(raw.as_uri(),), out=out, max_bad=0.1, executor="serial"))
    assert tree_bytes(tmp_path / "out of it") == tree_bytes(local / "clean")


@pytest.mark.slow
def test_a_stream_into_a_bucket_resumes(server: Storage, local: Path, gptctl: Gptctl) -> None:
    bucket = server.bucket()
    stream = gptctl("clean", local / "clean", "-o", "-", "--preset", "none").out
    command = ("dedup", "-", "-o", server.uri(f"{bucket}/unique"), "--executor", "serial", "--method", "exact")
    assert gptctl(*command, stdin=stream, fault="kill:40").code == -9
    assert gptctl(*command, stdin=stream).code == 0
    kept = json.loads(server.tree(f"{bucket}/unique")["manifest.json"])["counts"]["kept"]
    assert 0 < kept < json.loads((local / "clean" / "manifest.json").read_bytes())["counts"]["kept"]


def look(path: str, **more: Any) -> tuple[Any, str]:
    """Inspect a path; give the facts and the rows."""
    written: list[str] = []
    context = Context(write=written.append)
    return inspect(Inspect(path=path, format="jsonl", **more), context).metrics, "".join(written)


def test_datasets_in_a_bucket_can_be_inspected_and_compared_with(
    server: Storage, bucket: str, local: Path, tmp_path: Path
) -> None:
    for name in ("clean", "tokens"):
        for path, data in tree_bytes(local / name).items():
            server.put(f"{bucket}/{name}/{path}", data)
        remote, rows = look(server.uri(f"{bucket}/{name}"))
        here, local_rows = look(str(local / name))
        besides = (str(facts.pop("see also", "")).partition("?")[0] for facts in (remote, here))
        assert len({path.rpartition(name)[2] for path in besides}) == 1
        assert (remote, rows) == (here, local_rows)
    shard = "tokens/shards/train/part-00000.arrow"
    assert look(server.uri(f"{bucket}/{shard}"), limit=3) == look(str(local / shard), limit=3)
    with pytest.raises(UsageError, match="no such file or folder"):
        look(server.uri(f"{bucket}/nothing"))
    server.put(f"{bucket}/clean/shards/part-00000.arrow", b"")
    with pytest.raises(DataError, match="shard is cut"):
        look(server.uri(f"{bucket}/clean"))
    against = (server.uri(f"{bucket}/raw/a.jsonl"),)
    made = dedup(
        Dedup(
            inputs=(str(local / "clean"),),
            against=against,
            out=str(tmp_path / "new"),
            method="exact",
            executor="serial",
        )
    )
    assert 0 < made.counts.kept < made.counts.documents_in / 2


def test_predictions_and_scores_in_a_bucket(server: Storage) -> None:
    bucket = server.bucket()
    server.put(f"{bucket}/predictions.jsonl", b'{"label": "a", "pred": "a"}\n{"label": "a", "pred": "b"}\n')
    scores = Eval(predictions=server.uri(f"{bucket}/predictions.jsonl"), out=server.uri(f"{bucket}/scores"))
    assert evaluate(scores).metrics["accuracy"] == 0.5
    assert evaluate(scores).status == "up to date"
    assert evaluate(Eval(predictions=server.uri(f"{bucket}/scores"))).metrics["accuracy"] == 0.5
    assert "metrics.json" in server.written(f"{bucket}/scores")


@pytest.mark.slow
def test_training_reads_tokens_from_a_bucket(server: Storage, local: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    bucket = server.bucket()
    for path, data in tree_bytes(local / "tokens").items():
        server.put(f"{bucket}/tokens/{path}", data)
    training = ("--preset", "test-modern", "--steps", "5", "--json")
    here = gptctl("pretrain", local / "tokens", "-o", "here", *training)
    there = gptctl("pretrain", server.uri(f"{bucket}/tokens"), "-o", "there", *training)
    assert there.json["metrics"]["val_loss"] == here.json["metrics"]["val_loss"]
    assert (
        json.loads((tmp_path / "there" / "manifest.json").read_bytes())["inputs"]
        == (json.loads((tmp_path / "here" / "manifest.json").read_bytes())["inputs"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_every_engine_gives_the_same_bytes(
    server: Storage, bucket: str, local: Path, gptctl: Gptctl, engine: str
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    for command in (
        ["clean", f"{bucket}/raw", "-o", f"{bucket}/clean", "--set", "max_bad=0.1"],
        ["dedup", f"{bucket}/clean", "-o", f"{bucket}/unique"],
        ["tokenize", f"{bucket}/unique", "-o", f"{bucket}/tokens", "--vocab-size", "320"],
    ):
        done = gptctl(
            *(server.uri(part) if part.startswith(bucket) else part for part in command), "--executor", engine,
            "--workers", "2",
        )  # fmt: skip
        assert done.code == 0, done.err
    for name in ("clean", "unique", "tokens"):
        assert outcome(server.tree(f"{bucket}/{name}")) == outcome(tree_bytes(local / name))
