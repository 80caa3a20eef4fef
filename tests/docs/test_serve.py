"""The commands and the Python of serve.md, with the real command line and a real socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import CACHE, REPO, plain_environment, run_gptctl
from tests.docs.pages import blocks

pytest.importorskip("openai", reason="the extra test is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

PAGE = REPO / "docs" / "serve.md"


def free_port() -> int:
    """Return a port that nothing uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def started(command: str, port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the page on another port; end it as a supervisor does, and expect success."""
    args = [*re.sub(r" --port \d+", "", command).split()[1:], "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gptctl", *args], cwd=folder, stderr=subprocess.PIPE, text=True,
        env=plain_environment() | {"GPTCTL_CACHE": str(CACHE)},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if f" at http://127.0.0.1:{port}/v1" in line:
                break
        yield process
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == 0 and "Traceback" not in rest, rest
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_page(workspace: Path) -> None:
    """Each server answers the page's curl, and the page's Python prints what `generate` does."""
    found = list(blocks(PAGE))
    servers = [line for block in found for line in block.text.splitlines() if line.startswith("gptctl serve")]
    (curl,) = (block.text for block in found if block.text.startswith("curl"))
    (code,) = (block.text for block in found if block.language == "python")
    wanted = run_gptctl("generate", "run", "The", "--max-tokens", "20", "--seed", "1", "--device", "cpu", cwd=workspace)
    texts = []
    for server in servers:
        port = free_port()
        with started(server, port, workspace):
            answer = subprocess.run(["sh", "-c", curl.replace(":8000", f":{port}")], capture_output=True, text=True)
            assert '"object":"text_completion"' in answer.stdout, answer
            here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO)}
            ran = [sys.executable, "-c", code.replace(":8000", f":{port}")]
            texts.append(subprocess.run(ran, capture_output=True, text=True, env=here, check=True).stdout)
    assert f"The{texts[0].rstrip()}" == wanted.out.decode().rstrip()
