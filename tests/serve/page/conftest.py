"""The chat page in Chromium, from a server with a tiny model at a port of its own."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import pytest

from gptctl.infer.decoder import Decoder
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Scheduler

WAIT = 120_000  # milliseconds that a busy machine may take for anything


@dataclass
class Site:
    """A server with a page."""

    url: str
    scheduler: Scheduler

    def post(self, body: Any) -> Any:
        """Return the answer to what the page has sent, as one object."""
        whole = {name: value for name, value in body.items() if not name.startswith("stream")}
        kind = "chat/completions" if "messages" in body else "completions"
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(f"{self.url}v1/{kind}", json.dumps(whole).encode(), headers)) as answer:
            return json.load(answer)


MakeSite = Callable[..., Any]  # a context manager that yields a Site
Visit = Callable[..., Any]  # returns a page, whose attribute `sent` lists what it sent to be completed


@pytest.fixture
def site(generator: TextGenerator) -> MakeSite:
    """Serve the model at a port; the scheduler has a thread of its own, or is stepped by the test."""
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from gptctl.serve.app import make_app
    from gptctl.serve.guard import Access
    from gptctl.serve.server import Address, WebThread

    @contextmanager
    def started(keys: tuple[str, ...] = (), chat: bool = True, runs: bool = True) -> Iterator[Site]:
        model, decoder = ServedModel(generator, "tiny", SamplingParams(top_p=0.9)), generator.engine.model
        assert isinstance(decoder, Decoder)
        model.chat_template = generator.chat_template if chat else None
        scheduler = Scheduler(decoder, model.tokenizer, model.stop_ids, 4, 4)
        ended = threading.Event()
        thread = threading.Thread(target=scheduler.run, args=(ended.is_set,))
        with Address("127.0.0.1", 0).listen() as listening:
            web = WebThread(make_app(model, scheduler, Access(keys)), listening, 16)
            web.start()
            if runs:
                thread.start()
            try:
                yield Site(f"http://127.0.0.1:{listening.getsockname()[1]}/", scheduler)
            finally:
                ended.set()
                if runs:
                    thread.join()
                web.end()

    return started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as Debian has it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed")
    playwright.expect.set_options(timeout=WAIT)
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=WAIT)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Open the page of a site in a new profile. What it reports as an error fails the test."""
    contexts, errors = list[Any](), list[str]()

    def opened(site: Site, begins: bool = True, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()
        page.sent = list[Any]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: "completions" in request.url and page.sent.append(request.post_data_json))
        page.goto(site.url)
        if begins:
            page.locator("#welcome-title").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


def expect(what: Any) -> Any:
    """Return Playwright's assertions, which wait."""
    return pytest.importorskip("playwright.sync_api").expect(what)


def write(page: Any, text: str, **settings: Any) -> None:
    """Set what the settings have by their labels, write a message and press Enter."""
    if settings:
        page.get_by_role("button", name="Settings").click()
        for label, value in settings.items():
            page.get_by_label(label.replace("_", " "), exact=True).fill(str(value))
        page.get_by_role("button", name="Close").click()
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")


def wait_until(page: Any, condition: Callable[[], object]) -> None:
    """Let the browser and the server go on until something is true."""
    while not condition():
        page.wait_for_timeout(5)


def answered(page: Any, turns: int = 1) -> list[str]:
    """Wait until as many turns have answers, and return their texts."""
    expect(page.locator(".turn:not(.running)")).to_have_count(turns)
    return [str(text) for text in page.locator(".tokens").all_text_contents()]


def replace_answer(page: Any, *texts: str, end: str = "data: [DONE]\n\n") -> None:
    """Let requests be answered with texts, each in a chunk with a token of probability 1 / 2."""
    top = [{"token": "a", "logprob": -0.1, "bytes": None}]
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None,
                      "logprobs": {"content": [{"token": text, "logprob": -0.6931, "top_logprobs": top}]}}]}
        for text in texts
    ]  # fmt: skip
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
