"""The commands on datasets of the Hugging Face hub: pinned to a commit, downloaded once, and no secret told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gptctl
from gptctl.core.errors import ConflictError, GptctlError, MachineError, UsageError
from tests.conftest import documents, run_gptctl, write_jsonl
from tests.hub_server import TOKEN, Hub, environment, serve, use

ROWS = documents(40, words=60)


def lines(rows: list[dict[str, str]]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {"README.md": b"# Pages\n", "data/a.jsonl": lines(ROWS[:30]), "data/b.jsonl": lines(ROWS[30:])}


def clean(uri: str = "hf://datasets/ann/pages", out: str = "clean", **more: object) -> gptctl.Summary:
    """Clean what a URI names."""
    return gptctl.clean(
        uri, out=out, executor="serial", filters=["length"], identify_language=False, quiet=True, **more
    )


def record(out: str = "clean") -> dict[str, object]:
    """Return the run.json of an output."""
    return dict(json.loads(Path(out, "run.json").read_text()))


def test_as_from_local_files(hub: Hub, tmp_path: Path) -> None:
    """The shards are those of the same files in a folder, and run.json names the commit."""
    commit = hub.dataset("ann/pages", FILES).branches["main"]
    (tmp_path / "pages" / "data").mkdir(parents=True)
    for name in ("a", "b"):
        write_jsonl(tmp_path / "pages" / "data" / f"{name}.jsonl", ROWS[:30] if name == "a" else ROWS[30:])
    assert clean().counts == clean("pages", "local").counts
    shards = [path.name for path in Path("local/shards").iterdir()]
    assert all(Path("clean/shards", name).read_bytes() == Path("local/shards", name).read_bytes() for name in shards)
    assert record()["sources"] == {"inputs": [f"hf://datasets/ann/pages@{commit}"]}
    assert [path.rsplit("/", 1)[1] for path in hub.downloads()] == ["README.md", "a.jsonl", "b.jsonl"]


def test_again_and_after_a_new_commit(hub: Hub) -> None:
    """Another card changes nothing; other data is a conflict; the old commit can still be named, as can a tag."""
    repository = hub.dataset("ann/pages", FILES)
    old = repository.branches["main"]
    clean()
    assert clean().status == "up to date"
    repository.commit(FILES | {"README.md": b"# The pages\n"})
    assert clean().status == "up to date"
    repository.commit(FILES | {"data/b.jsonl": lines(ROWS[31:])}, branch="v2")
    with pytest.raises(ConflictError, match=r"made from other input: data/b\.jsonl differs"):
        clean("hf://datasets/ann/pages@v2")
    assert clean(f"hf://datasets/ann/pages@{old}").status == "up to date"
    assert sum(path.endswith("a.jsonl") for path in hub.downloads()) == 1


def test_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE, what is in the cache is read at its commit, and nothing is asked for."""
    hub.dataset("ann/pages", FILES)
    clean("hf://datasets/ann/pages/data/a.jsonl")
    use(hub, tmp_path / "home", monkeypatch, offline=True)
    asked = len(hub.requests)
    assert clean("hf://datasets/ann/pages/data/a.jsonl").status == "up to date"
    assert clean("hf://datasets/ann/pages/data/a.jsonl", "again").status == "done"
    for uri in ("hf://datasets/ann/pages/data/b.jsonl", "hf://datasets/ann/other"):
        with pytest.raises(MachineError, match="is not in the cache of the hub, and HF_HUB_OFFLINE is set"):
            clean(uri, "other")
    assert len(hub.requests) == asked


def test_no_answer(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that does not answer is an error, also if the cache could answer: it may be out of date."""
    hub.dataset("ann/pages", FILES)
    clean()
    silent = Hub(url="http://127.0.0.1:9")
    use(silent, tmp_path / "home", monkeypatch)
    with pytest.raises(MachineError, match=r"http://127\.0\.0\.1:9 does not answer") as error:
        clean()
    assert "HF_HUB_OFFLINE=1" in (error.value.hint or "")


def test_downloads_that_fail(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused download is tried again, and one that breaks off is resumed."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.dataset("ann/pages", {"pages.jsonl": lines(ROWS)})
    hub.failures = 1
    hub.cut = 2000
    assert clean().counts.kept == len(ROWS)
    ranges = [value for _, _, headers in hub.requests for name, value in headers.items() if name.lower() == "range"]
    assert "bytes=2000-" in ranges


def test_the_token(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens private and gated repositories, goes to no other host, and is written nowhere."""
    hub.dataset("ann/pages", FILES).private = True
    hub.dataset("ann/gated", FILES).gated = True
    with pytest.raises(
        MachineError, match=r"access denied \(401\): the dataset ann/pages does not exist or is private"
    ):
        clean()
    with pytest.raises(MachineError, match="access denied: the dataset ann/gated is gated") as error:
        clean("hf://datasets/ann/gated")
    assert "hf auth login" in (error.value.hint or "")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve() as other:
        other.dataset("ann/pages", FILES)
        other.dataset("ann/gated", FILES)
        hub.elsewhere = other.url.replace("127.0.0.1", "localhost")
        clean()
        clean("hf://datasets/ann/gated", "gated")
        assert other.downloads()
        assert not any("authorization" in name.lower() for _, _, headers in other.requests for name in headers)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        ("hf://datasets/ann/pages@v9", 2, "the dataset ann/pages has no revision 'v9'"),
        ("hf://datasets/ann/nothing", 2, "no such dataset ann/nothing at http"),
        ("hf://datasets/ann/pages/no.jsonl", 2, "no such file or folder: hf://datasets/ann/pages@"),
        ("hf://datasets/a--b/..", 2, "names no dataset"),
    ],
)
def test_what_the_hub_does_not_have(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, uri: str, code: int, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # without one, the hub does not say whether a repository exists
    hub.dataset("ann/pages", FILES)
    with pytest.raises(GptctlError) as error:
        clean(uri)
    assert error.value.exit_code == code
    assert message in error.value.message


def test_it_is_only_read(hub: Hub) -> None:
    with pytest.raises(UsageError, match="hf upload"):
        clean("raw.jsonl", "hf://datasets/ann/mine")
    assert hub.requests == []


def test_other_inputs(hub: Hub, tmp_path: Path) -> None:
    """--decontaminate, --against, a tokenizer, and a dataset that gptctl wrote and someone uploaded."""
    hub.dataset("ann/questions", {"test.jsonl": lines(ROWS[:3])})
    write_jsonl(tmp_path / "raw.jsonl", ROWS)
    assert clean("raw.jsonl", decontaminate=["hf://datasets/ann/questions"]).counts.dropped["contamination.words"] >= 3
    found = gptctl.dedup("raw.jsonl", out="unique", against=["hf://datasets/ann/questions"], executor="serial")
    assert found.counts.dropped["in_against"] >= 3
    gptctl.tokenize("unique", out="tokens", vocab_size=300, executor="serial")
    tree = {p.relative_to("unique").as_posix(): p.read_bytes() for p in Path("unique").rglob("*") if p.is_file()}
    hub.dataset("ann/unique", tree | {"README.md": b"# Unique\n"})
    hub.model("ann/gpt", {"tokenizer.json": Path("tokens/tokenizer.json").read_bytes(), "model.bin": b"pickle"})
    gptctl.tokenize("hf://datasets/ann/unique", out="again", tokenizer="hf://ann/gpt", executor="serial")
    shards = [json.loads(Path(name, "manifest.json").read_text())["shards"] for name in ("tokens", "again")]
    assert shards[0] == shards[1]
    assert not any(path.endswith(".bin") for path in hub.downloads())


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path) -> None:
    """Workers read the commit that the command found at its start, though the branch moves on; doctor asks for nothing."""
    with serve() as hub:
        commit = hub.dataset("ann/pages", FILES).branches["main"]
        variables = environment(hub, tmp_path / "home")
        done = run_gptctl(
            "clean", "hf://datasets/ann/pages", "-o", "clean", "--workers", "2", "--json",
            "--decontaminate", "hf://datasets/ann/pages/data/a.jsonl", cwd=tmp_path, **variables,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert f"hf://datasets/ann/pages@{commit}: reads data/a.jsonl, data/b.jsonl" in done.err
        assert json.loads(done.out)["counts"]["kept"] <= 10
        asked = len(hub.requests)
        assert run_gptctl("doctor", "clean", cwd=tmp_path, **variables).code == 0
        assert run_gptctl("report", "clean", "-o", "page", cwd=tmp_path, **variables).code == 0
        assert len(hub.requests) == asked
        assert sum("/revision/" in path for _, path, _ in hub.requests) == 4  # two for each of the two keys
