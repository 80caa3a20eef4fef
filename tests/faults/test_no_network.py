"""No command opens a connection unless its command line names a place of the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO, documents, write_jsonl

# It replaces what opens connections in every process that Python starts: each attempt is written down and refused, but
# for sockets of the file system and of this machine itself, through which processes of one run find each other.
CLOSED = """
import os, socket

def told(address):
    host = address[0] if isinstance(address, tuple) else address
    inside = host in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname())
    if isinstance(address, (str, bytes)) and not isinstance(address, tuple) or inside:
        return
    with open(os.environ["ATTEMPTS"], "a") as file:
        file.write(f"{address}\\n")
    raise OSError("the network is closed")

class Closed(socket.socket):
    def connect(self, address):
        told(address)
        return super().connect(address)

    def connect_ex(self, address):
        told(address)
        return super().connect_ex(address)

    def sendto(self, data, *rest):
        told(rest[-1])
        return super().sendto(data, *rest)

look_up = socket.getaddrinfo

def getaddrinfo(host, *rest, **more):
    told((host.decode() if isinstance(host, bytes) else host,))
    return look_up(host, *rest, **more)

socket.socket, socket.getaddrinfo = Closed, getaddrinfo
"""
# It runs the commands one after the other in one process, and prints which have imported the hub's client.
RUN = """
import json, sys
from gptctl.__main__ import main

codes, importers = {}, []
for command in json.loads(sys.argv[1]):
    sys.argv = ["gptctl", *command.split()]
    try:
        codes[command] = main()
    except SystemExit as stop:
        codes[command] = stop.code
    if {"huggingface_hub.hf_api", "huggingface_hub.file_download"} & sys.modules.keys():
        importers.append(command)
print(json.dumps([codes, importers]))
"""
COMMANDS = [
    "clean raw.jsonl -o clean --workers 2",
    "dedup clean -o unique",
    "split unique -o divided",
    "tokenize unique -o tokens --vocab-size 300",
    "pretrain tokens -o run --preset test-gpt2 --steps 2 --device cpu",
    "finetune run labelled.jsonl -o classifier --epochs 1 --device cpu",
    "finetune run unique -o adapted --task lm --epochs 1 --device cpu --gpus 0",
    "eval classifier labelled.jsonl -o scores --device cpu",
    "generate run The --max-tokens 2 --device cpu",
    "export run -o hf",
    "inspect run",
    "doctor run",
    "report run -o page",
]


@pytest.mark.slow
def test_closed_sockets(tmp_path: Path) -> None:
    rows = documents(60, words=80)
    write_jsonl(tmp_path / "raw.jsonl", rows)
    write_jsonl(tmp_path / "labelled.jsonl", [row | {"label": "ab"[i % 2]} for i, row in enumerate(rows)])
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "sitecustomize.py").write_text(CLOSED)
    variables = {
        "PYTHONPATH": os.pathsep.join((str(tmp_path / "closed"), str(REPO))),
        "ATTEMPTS": str(tmp_path / "attempts"),
        "HF_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(COMMANDS)],
        cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes, importers = json.loads(done.stdout.splitlines()[-1])
    assert {command: code for command, code in codes.items() if code} == {}, done.stderr
    assert not (tmp_path / "attempts").exists(), (tmp_path / "attempts").read_text()
    assert importers == []


def test_the_closed_sockets_are_closed(tmp_path: Path) -> None:
    """What `test_closed_sockets` relies on: an attempt to connect is refused and written down."""
    (tmp_path / "sitecustomize.py").write_text(CLOSED)
    variables = {"PYTHONPATH": str(tmp_path), "ATTEMPTS": str(tmp_path / "attempts")}
    code = "import urllib.request; urllib.request.urlopen('http://hub.example/x')"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True)
    assert "the network is closed" in done.stderr
    assert "hub.example" in (tmp_path / "attempts").read_text()
