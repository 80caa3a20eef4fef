"""A tiny model with random weights behind an application in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Scheduler
from gptctl.text.chat import MARKERS, ChatTemplate
from gptctl.text.chat_render import CHATML
from tests.infer.test_text_stream import byte_level
from tests.model.test_gpt import make

CONTEXT = 256


@pytest.fixture(scope="session")
def generator() -> TextGenerator:
    """A chat model in int8, where equal means bit for bit."""
    tokenizer = byte_level().with_special_tokens(MARKERS)
    model = make("test-modern", vocab_size=tokenizer.vocab_size, max_seq_len=CONTEXT)
    template = ChatTemplate(CHATML, tokenizer)
    made = TextGenerator(Engine(Decoder(model, "int8")), tokenizer, tokenizer.stop_ids({}))
    made.chat_template = template
    return made


Serve = Callable[..., Any]  # a context manager that yields a client with the attribute `scheduler`


@pytest.fixture
def serve(generator: TextGenerator) -> Serve:
    """Serve the model in this process; the scheduler has a thread of its own, or is stepped by the test."""

    pytest.importorskip("starlette", reason="the extra serve is not installed")
    from starlette.testclient import TestClient

    from gptctl.serve.app import make_app
    from gptctl.serve.guard import Access

    @contextmanager
    def started(keys: tuple[str, ...] = (), max_batch: int = 4, max_queue: int = 8, runs: bool = True) -> Iterator[Any]:
        model, decoder = ServedModel(generator, "tiny", SamplingParams()), generator.engine.model
        assert isinstance(decoder, Decoder)
        scheduler = Scheduler(decoder, model.tokenizer, model.stop_ids, max_batch, max_queue)
        ended = threading.Event()
        thread = threading.Thread(target=scheduler.run, args=(ended.is_set,))
        with TestClient(
            make_app(model, scheduler, Access(keys, ("example.org",))),
            "http://localhost",
            raise_server_exceptions=False,
        ) as client:
            client.scheduler = scheduler
            if runs:
                thread.start()
            try:
                yield client
            finally:
                ended.set()
                if runs:
                    thread.join()

    return started


@contextmanager
def on_socket(app: Any, scheduler: Scheduler, max_connections: int = 16) -> Iterator[int]:
    """Serve an application on a real socket, and yield the port."""
    from gptctl.serve.server import Address, WebThread, run

    ended = threading.Event()
    with Address("127.0.0.1", 0).listen() as listening:
        web = WebThread(app, listening, max_connections)
        web.start()
        main = threading.Thread(target=run, args=(scheduler, web, ended.is_set, 30))
        main.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            main.join()
