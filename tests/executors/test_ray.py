"""Shard tasks on Ray: the bytes of `processes`, also where workers and nodes are killed; errors as anywhere else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from gptctl.core.errors import DataError, GptctlError, MachineError
from gptctl.executors import ray as executor
from gptctl.io.dataset import manifest
from tests.conftest import REPO, Ran, documents, run_gptctl, tree_bytes, write_jsonl

Gptctl = Callable[..., Ran]
PROCESSES = ("raylet", "gcs_server", "ray::")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 14 shard tasks: two JSON-lines files and a page."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    folder.mkdir()
    rows = documents(2300, words=900)
    write_jsonl(folder / "a.jsonl", [row | {"kind": "reference", "number": i} for i, row in enumerate(rows[:1300])])
    write_jsonl(folder / "b.jsonl", [row | {"number": None} for row in rows[1300:]])
    (folder / "page.html").write_text(f"<html><body><h1>Page</h1><p>{rows[0]['text']}</p></body></html>")
    return folder


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `processes` makes of the corpus: clean, unique, tokens, shuffled."""
    folder = tmp_path_factory.mktemp("whole")
    for command in chain(raw):
        done = run_gptctl(*command, cwd=folder)
        assert done.code == 0, done.err
    return folder


def chain(raw: Path) -> list[list[str]]:
    """The data stages."""
    return [
        ["clean", str(raw), "-o", "clean"],
        ["dedup", "clean", "-o", "unique"],
        ["tokenize", "unique", "-o", "tokens", "--vocab-size", "400"],
        [
            "tokenize",
            "unique",
            "-o",
            "shuffled",
            "--tokenizer",
            "tokens/tokenizer.json",
            "--set",
            "encoder=tokenizers",
            "--shuffle",
        ],
    ]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes on this machine, with one processor each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    handler = signal.getsignal(signal.SIGTERM)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)


def start(*args: object, cwd: Path) -> subprocess.Popen[bytes]:
    """Start gptctl on Ray."""
    command = [sys.executable, "-m", "gptctl", *map(str, args), "--executor", "ray"]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, env=environment)


def wait_for_records(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    """Return once some tasks are done, others are not."""
    while len(list(out.glob("work/*.json"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def workers_of(node: Any) -> list[psutil.Process]:
    """The worker processes of a node."""
    raylet = next(info.process.pid for infos in [node.all_processes["raylet"]] for info in infos)
    return [child for child in psutil.Process(raylet).children() if child.name().startswith("ray::run_item")]


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """What a command has started."""
    return psutil.Process(process.pid).children(recursive=True)


def check(done: subprocess.Popen[bytes], out: Path, whole: Path) -> None:
    """Check that a run ended well, silently about Ray, with every shard once and the bytes of `processes`."""
    _, err = done.communicate(timeout=200)
    assert done.returncode == 0, err
    assert b"ray" not in err.lower(), err
    assert tree_bytes(out) == tree_bytes(whole)
    names = [shard.path for shard in manifest.read(out).shards]
    assert len(names) == len(set(names)) > 8
    assert sorted(names) == [path.relative_to(out).as_posix() for path in sorted(out.glob("shards/*"))]


@pytest.mark.slow
def test_clean_on_a_cluster_of_its_own(raw: Path, tmp_path: Path) -> None:
    assert run_gptctl("clean", raw, "-o", "expected", "--limit", 400, cwd=tmp_path).code == 0
    process = start("clean", raw, "-o", "clean", "--limit", 400, "--workers", 2, cwd=tmp_path)
    wait_for_records(process, tmp_path / "clean", 1)
    family = descendants(process)
    assert any(child.name().startswith("raylet") for child in family)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert b"ray" not in err.lower(), err
    assert tree_bytes(tmp_path / "clean") == tree_bytes(tmp_path / "expected")
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert not list(tmp_path.rglob("*.tmp-*"))


@pytest.mark.slow
def test_no_cluster_at_an_address(raw: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    done = gptctl("clean", raw, "-o", "clean", "--executor", "ray", "--ray-address", "127.0.0.1:1")
    assert (done.code, len(done.err.splitlines())) == (4, 2), done.err
    assert "no Ray cluster answers at 127.0.0.1:1" in done.err
    named = gptctl("clean", raw, "-o", "clean", "--executor", "ray", RAY_ADDRESS="localhost:1")
    assert (named.code, "localhost:1" in named.err) == (4, True), named.err
    for wrong in ("nonsense", "ray://127.0.0.1:1", "127.0.0.1:99999999"):
        assert gptctl("clean", raw, "-o", "clean", "--executor", "ray", "--ray-address", wrong).code == 4


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(MachineError) as raised:
        list(executor.run(str, [1], 2))
    assert raised.value.hint == "pip install 'ray>=2.50'"
    assert list(executor.run(str, [], 2)) == []


@pytest.mark.slow
def test_the_chain_on_two_nodes(raw: Path, whole: Path, cluster: Any, tmp_path: Path, gptctl: Gptctl) -> None:
    for command in chain(raw):
        done = gptctl(*command, "--executor", "ray", "--ray-address", cluster.address)
        assert done.code == 0, done.err
        assert "ray" not in done.err.lower()
    for name in ("clean", "unique", "tokens", "shuffled"):
        assert tree_bytes(tmp_path / name) == tree_bytes(whole / name)
    assert cluster.remaining_processes_alive()
    assert gptctl(*chain(raw)[0], "--executor", "ray", "--ray-address", "127.0.0.1:1").code == 0  # up to date


@pytest.mark.slow
def test_a_killed_node_loses_nothing(raw: Path, whole: Path, cluster: Any, tmp_path: Path) -> None:
    process = start("clean", raw, "-o", "clean", "--ray-address", cluster.address, cwd=tmp_path)
    wait_for_records(process, tmp_path / "clean", 3)
    node = next(iter(cluster.worker_nodes))
    while not workers_of(node):  # on a busy machine they come late
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    cluster.remove_node(node, allow_graceful=False)
    check(process, tmp_path / "clean", whole / "clean")


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(raw: Path, whole: Path, cluster: Any, tmp_path: Path) -> None:
    process = start("clean", raw, "-o", "clean", "--ray-address", cluster.address, cwd=tmp_path)
    wait_for_records(process, tmp_path / "clean", 3)
    killed = [worker.kill() for node in cluster.list_all_nodes() for worker in workers_of(node)]
    assert killed
    check(process, tmp_path / "clean", whole / "clean")


@pytest.mark.slow
def test_an_error_in_a_task_is_told_as_anywhere(whole: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "some text of a fair length"}\n' * 30_000)
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1" + bytes(2**20) + b"PAR1")
    done = gptctl("clean", "in", "-o", "out", "--executor", "ray")
    other = gptctl("clean", "in", "-o", "other")
    assert (done.code, other.code) == (3, 3)
    assert [line.replace("out", "other") for line in done.error_lines] == other.error_lines
    damaged = tmp_path / "damaged"
    subprocess.run(["cp", "-r", str(whole / "clean"), str(damaged)], check=True)
    shard = sorted(damaged.glob("shards/*"))[5]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = gptctl("dedup", "damaged", "-o", "unique", "--executor", "ray")
    assert (done.code, len(done.error_lines)) == (3, 2), done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_command_and_its_cluster(number: int, raw: Path, whole: Path, tmp_path: Path) -> None:
    process = start("clean", raw, "-o", "clean", "--workers", 2, cwd=tmp_path)
    wait_for_records(process, tmp_path / "clean", 2)
    family = descendants(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), err
    if number != signal.SIGKILL:
        assert f"stopped by {signal.Signals(number).name}" in err.decode()
        written = err.decode().splitlines()  # a slow machine also shows its progress, and that it is stopping
        assert [line.split(":")[0] for line in written[-2:]] == ["error", "hint"], err
    _, alive = psutil.wait_procs(family, timeout=120)  # Ray's agents see late that their raylet is gone
    assert alive == []
    left = list((tmp_path / "clean").glob("work/*.json"))
    assert 2 <= len(left) < 14
    check(start("clean", raw, "-o", "clean", cwd=tmp_path), tmp_path / "clean", whole / "clean")


def answers(folder: Path, item: int) -> str:
    """Return 3 * item; the first attempt at 5 dies, 6 is an error of ours, 7 another's, 8 dies each time."""
    marker = folder / "tried"
    if item == 8 or (item == 5 and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 6:
        raise DataError("six", "a hint")
    if item == 7:
        raise ZeroDivisionError("seven")
    time.sleep(0.2 if item % 2 else 0.01)
    return str(3 * item)


@pytest.mark.slow
def test_order_retries_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    work = partial(answers, tmp_path)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in (9, 1, 2, 3, 4, 5, 10, 11, 12):
            taken.append(item)
            yield item

    found = executor.run(work, items(), 2)
    assert (next(found), len(taken)) == ("27", 4)
    assert list(found) == ["3", "6", "9", "12", "15", "30", "33", "36"]
    assert (tmp_path / "tried").exists()
    assert signal.getsignal(signal.SIGTERM) == handler
    with pytest.raises(DataError, match="six") as ours:
        list(executor.run(work, [1, 6, 2, 3], 2))
    assert (ours.value.hint, type(ours.value)) == ("a hint", DataError)
    with pytest.raises(ZeroDivisionError, match="seven"):
        list(executor.run(work, [7, 1, 2], 2))
    with pytest.raises(MachineError, match="a worker process died"):
        list(executor.run(work, [1, 8, 2], 2))
    with pytest.raises(GptctlError):
        list(executor.run(work, [1, 8, 2], 2))
    import ray

    ray.shutdown()
