"""Where a server listens, its keys, its warning, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from gptctl.core.context import Context
from gptctl.core.errors import DataError, GptctlError, MachineError, UsageError
from gptctl.infer.decoder import Decoder
from gptctl.infer.generator import TextGenerator
from gptctl.infer.row_sampling import RowParams
from gptctl.infer.sampling import SamplingParams
from gptctl.serve.guard import Access
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Failed, Job, Scheduler
from gptctl.serve.server import Address, Options, read_keys, serve


def test_an_address_that_cannot_be_used() -> None:
    """A port that is in use, and a host that is none."""
    with Address("127.0.0.1", 0).listen() as listening:
        port = listening.getsockname()[1]
        with pytest.raises(MachineError, match=f"cannot listen on 127.0.0.1 port {port}: "):
            Address("127.0.0.1", port).listen()
    with pytest.raises(UsageError, match=r"--host a\.\.b is no address of this machine"):
        Address("a..b", 0).listen()
    assert Address("::1", 0).url(80) == "http://[::1]:80"


@pytest.mark.parametrize(
    ("content", "error"), [(b" \n", DataError), (b"\xff", DataError), ("ключ".encode(), DataError)]
)
def test_files_without_a_usable_key(content: bytes, error: type[GptctlError], tmp_path: Path) -> None:
    """Empty, not UTF-8, not ASCII."""
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(error, match="keys"):
        read_keys(str(tmp_path / "keys"))


def test_keys(tmp_path: Path) -> None:
    """One on each line; no file, no keys."""
    (tmp_path / "keys").write_text("first\n\nsecond\n")
    assert read_keys(str(tmp_path / "keys")) == ("first", "second")
    assert read_keys(None) == ()


@pytest.mark.parametrize(
    ("host", "keys", "warns"), [("127.0.0.1", (), 0), ("0.0.0.0", (), 1), ("0.0.0.0", ("key",), 0)]
)
def test_an_open_server_warns_and_a_slow_request_is_ended(
    generator: TextGenerator, host: str, keys: tuple[str, ...], warns: int
) -> None:
    """A signal has arrived, and no time is left: what runs is told, and the server has ended."""
    said: list[str] = []
    context = Context(warn=said.append)
    context.stop.signal_number = 15
    model, decoder = ServedModel(generator, "tiny", SamplingParams()), generator.engine.model
    assert isinstance(decoder, Decoder)
    scheduler, events = Scheduler(decoder, model.tokenizer, model.stop_ids, 2, 4), list[Any]()
    bias = {model.stop_ids[0]: -100.0}
    scheduler.submit([Job([5], RowParams(SamplingParams(max_tokens=200), logit_bias=bias), events.append)])
    options = Options(Address(host, 0), Access(keys), drain_seconds=0, max_connections=2)
    with options.address.listen() as listening:
        metrics = serve(model, scheduler, options, listening, context)
    assert sum("can use the model; give --api-key-file" in text for text in said) == warns
    assert "did not finish within 0 s" in said[-1] and isinstance(events[-1], Failed)
    assert metrics["requests"] == 0 and not scheduler.submit([])
