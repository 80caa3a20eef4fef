"""The page at /, in Chromium: what it sends and shows, by mouse and by keyboard, and that answers cannot act on it."""

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
from tests.serve.conftest import CONTEXT, Serve

WAIT = 60_000  # milliseconds that a busy machine may take for anything
KEY = "secret-key"
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\n"
    "\u202eabc\u202d \u2067def \u2028 javascript:alert(1) &lt;b&gt;\x00\x1b[31m\n" + "long" * 2000
)


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
            web = WebThread(make_app(model, scheduler, Access(keys)), listening)
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
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    playwright.expect.set_options(timeout=WAIT)
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=WAIT)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page of a site in a new profile. What it reports as an error fails the test."""
    contexts, errors = list[Any](), list[str]()

    def opened(site: Site, begins: bool = True, **more: Any) -> Any:
        contexts.append(browser.new_context(**more))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()
        page.sent = list[Any]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: "completions" in request.url and page.sent.append(request.post_data_json))
        page.goto(site.url)
        if begins:
            page.get_by_role("heading", name="tiny", level=2).wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


def expect(what: Any) -> Any:
    """Return Playwright's assertions, which wait."""
    from playwright.sync_api import expect

    return expect(what)


def write(page: Any, text: str, **settings: Any) -> None:
    """Set what the settings have by their labels, write a message and press Enter."""
    if settings:
        page.get_by_role("button", name="Settings").click()
        for label, value in settings.items():
            page.get_by_label(label.replace("_", " "), exact=True).fill(str(value))
        page.get_by_role("button", name="Close").click()
    page.get_by_role("textbox").last.fill(text)
    page.get_by_role("textbox").last.press("Enter")


def answered(page: Any, turns: int = 1) -> list[str]:
    """Wait until as many turns have answers, and return their texts."""
    expect(page.locator(".turn:not(.busy)")).to_have_count(turns)
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


def test_headers(serve: Serve) -> None:
    """Nothing but the file runs, no other page frames it, nothing is stored. It needs no key, but a name of the server."""
    with serve(("first",)) as client:
        answer = client.get("/")
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert policy.pop("script-src").startswith("'sha256-") and policy.pop("style-src").startswith("'sha256-")
        assert policy.pop("connect-src") == "'self'" and policy.pop("img-src") == "data:"
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert set(policy.values()) == {"'none'"} and {"default-src", "frame-ancestors", "base-uri"} <= set(policy)
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        assert client.get("/", headers={"Host": "elsewhere.net"}).status_code == 403
        assert client.get("/", headers={"Origin": "http://elsewhere.net"}).status_code == 403
        assert "//" not in "".join(line for line in answer.text.splitlines() if "src=" in line or "url(" in line)


def test_a_conversation(site: MakeSite, visit: Callable[..., Any]) -> None:
    """The answers are those of the server to the whole conversation, regenerated, edited and begun anew."""
    with site() as server:
        page = visit(server)
        write(page, "the\nother", System_prompt="Be brief", Seed=3, Max_tokens=9)
        (first,) = answered(page)
        system, user = {"role": "system", "content": "Be brief"}, {"role": "user", "content": "the\nother"}
        assert page.sent[0]["messages"] == [system, user]
        assert first == server.post(page.sent[0])["choices"][0]["message"]["content"]
        expect(page.locator(".figures")).to_contain_text("9 tokens ·")
        expect(page.locator(".figures")).to_contain_text(f"of {CONTEXT} · ended at max tokens")
        write(page, "second")
        assert answered(page, 2)[0] == first
        history = [system, user, {"role": "assistant", "content": first}]
        assert page.sent[1]["messages"] == [*history, {"role": "user", "content": "second"}]
        page.get_by_role("button", name="Regenerate").locator("visible=true").click()
        expect(page.locator(".busy")).to_have_count(0)
        assert page.sent[2] == page.sent[1] and len(answered(page, 2)) == 2
        page.get_by_role("textbox").fill("a draft")
        page.get_by_role("button", name="Edit").locator("visible=true").click()
        expect(page.get_by_label("Edit your last message")).to_have_value("second")
        write(page, "third")
        answered(page, 2)
        expect(page.locator(".user .text")).to_have_text(["the\nother", "third"])
        assert page.sent[3]["messages"] == [*history, {"role": "user", "content": "third"}]
        expect(page.get_by_label("Message", exact=True)).to_have_value("a draft")
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator(".turn")).to_have_count(0)
        page.get_by_role("button", name="Back to the last conversation").click()
        expect(page.locator(".turn")).to_have_count(2)


def test_a_model_without_a_template_continues_text(site: MakeSite, visit: Callable[..., Any]) -> None:
    """Each text alone, of a length that fits; Continue goes on behind what there is."""
    with site(chat=False) as server:
        page = visit(server)
        write(page, "the ", Seed=3)
        answered(page)
        assert page.sent[0]["prompt"] == "the " and page.sent[0]["max_tokens"] == 200
        write(page, "other", Max_tokens=5)
        first = answered(page, 2)[1]
        assert page.sent[1]["prompt"] == "other"
        assert first == server.post(page.sent[1])["choices"][0]["text"]
        page.get_by_role("button", name="Continue").locator("visible=true").click()
        expect(page.locator(".busy")).to_have_count(0)
        text = answered(page, 2)[1]
        assert page.sent[2]["prompt"] == "other" + first
        assert text == first + server.post(page.sent[2])["choices"][0]["text"]
        expect(page.locator(".prompt").last).to_have_text("other")


def test_settings(site: MakeSite, visit: Callable[..., Any]) -> None:
    """Those that are set are sent; the others show what the model has; wrong ones are not sent."""
    with site() as server:
        page = visit(server)
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("Top p")).to_have_attribute("placeholder", "0.9")
        page.get_by_label("Probabilities", exact=True).uncheck()
        page.get_by_role("button", name="Close").click()
        values = {
            "Temperature": 0.5,
            "Top_p": 0.25,
            "Top_k": 7,
            "Min_p": 0.125,
            "Repetition_penalty": 1.5,
            "Max_tokens": 2,
            "Seed": 4,
        }
        write(page, "the", **values)
        answered(page)
        sent = page.sent[0]
        messages = [{"role": "user", "content": "the"}]
        assert sent == {
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": messages,
        } | {name.lower(): value for name, value in values.items()}
        write(page, "again", Temperature=-1)
        expect(page.get_by_label("Temperature")).to_be_focused()
        page.get_by_role("button", name="Defaults").click()
        page.get_by_label("Max tokens").fill("2")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Settings")).to_be_focused()
        expect(page.get_by_label("Message", exact=True)).to_have_value("again")
        write(page, "again")
        answered(page, 2)
        assert len(page.sent) == 2 and "temperature" not in page.sent[1] and page.sent[1]["top_logprobs"] == 5


def test_probabilities(site: MakeSite, visit: Callable[..., Any]) -> None:
    """By mouse and by keyboard: those of the server."""
    with site() as server:
        page = visit(server)
        write(page, "the", Seed=5, Max_tokens=6, Temperature=0)
        answered(page)
        scores = server.post(page.sent[0])["choices"][0]["logprobs"]["content"]
        token, tip = page.locator(".token"), page.get_by_role("tooltip")
        token.nth(0).hover()
        expect(tip.locator("tr")).to_have_count(5)
        page.mouse.move(1, 1)
        expect(tip).to_be_hidden()
        button = page.get_by_role("button", name="Probabilities")
        button.focus()
        button.press("Enter")
        expect(page.get_by_role("option").first).to_be_focused()
        expect(tip).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("option").nth(1)).to_be_focused()
        page.keyboard.press("Home")
        most = max(scores[0]["top_logprobs"], key=lambda one: one["logprob"])
        share = f"{2.718281828 ** most['logprob'] * 100:.3g} %"
        expect(tip.locator(".taken td").nth(1)).to_have_text(share)
        assert share in page.get_by_role("option").first.get_attribute("aria-label")
        page.keyboard.press("Escape")
        expect(tip).to_be_hidden()
        expect(button).to_be_focused()
        expect(page.get_by_role("option")).to_have_count(0)


def test_an_answer_is_stopped(site: MakeSite, visit: Callable[..., Any]) -> None:
    """By Escape and by the button. Its place is freed, and what there is stays in the conversation."""
    with site(runs=False) as server:
        page = visit(server)
        for number, stop in enumerate(
            (lambda: page.keyboard.press("Escape"), page.get_by_role("button", name="Stop").click)
        ):
            write(page, "the")
            while server.scheduler.is_idle:
                page.wait_for_timeout(5)
            while not (page.locator(".busy .tokens").count() and page.locator(".busy .tokens").text_content()):
                assert server.scheduler.step()
            stop()
            expect(page.locator(".figures").last).to_contain_text("stopped")
            while not server.scheduler.is_idle:
                server.scheduler.step()
                page.wait_for_timeout(5)
            assert server.scheduler.metrics.cancelled == number + 1
        assert [message["role"] for message in page.sent[1]["messages"]] == ["user", "assistant", "user"]
        assert page.sent[1]["messages"][1]["content"] == page.locator(".tokens").first.text_content()


def test_refusals_are_shown_and_lose_nothing(site: MakeSite, visit: Callable[..., Any]) -> None:
    """The server's sentence, with what to do; what was not answered is not part of the conversation."""
    with site() as server:
        page = visit(server)
        alert = page.locator(".turn .bad")
        write(page, "the " * CONTEXT, Max_tokens=3)
        expect(alert).to_contain_text("the model's context is 256 tokens")
        expect(alert).to_contain_text("Begin a new conversation, or write less.")
        server.scheduler.max_queue = 0
        write(page, "the")
        expect(alert.last).to_have_text("Not answered: the queue is full; try again later (429)")
        server.scheduler.max_queue = 4
        page.get_by_role("button", name="Try again").locator("visible=true").click()
        expect(alert.last).to_have_text("")
        first = answered(page, 2)[1]
        assert page.sent[2]["messages"] == [{"role": "user", "content": "the"}]
        page.route("**/v1/chat/completions", lambda route: route.abort())
        page.get_by_role("button", name="Regenerate").locator("visible=true").click()
        expect(alert.last).to_contain_text("The server cannot be reached.")
        assert answered(page, 2)[1] == first
        page.unroute_all()
        server.scheduler.close()
        page.get_by_role("button", name="Try again").locator("visible=true").click()
        expect(alert.last).to_have_text("Not answered: the server is shutting down (503)")
        page.unroute_all()
        for end, said in (
            ('data: {"error": {"message": "broken"}}\n\n', "broken"),
            ("", "The connection ended before the answer did."),
        ):
            replace_answer(page, "some", end=end)
            page.get_by_role("button", name="Try again").locator("visible=true").click()
            expect(alert.last).to_have_text(f"Not answered: {said}")
            assert answered(page, 2)[1] == "some"


def test_keys(site: MakeSite, visit: Callable[..., Any]) -> None:
    """Asked for if the server wants one, kept for this tab alone, forgotten on demand."""
    with site((KEY,)) as server:
        page = visit(server, begins=False)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill("wrong")
        field.press("Enter")
        expect(page.get_by_role("alert").locator("visible=true")).to_contain_text("The key was refused: no valid key")
        field.fill(KEY)
        field.press("Enter")
        write(page, "the", Max_tokens=3)
        answered(page)
        assert page.evaluate("Object.values(sessionStorage)") == [KEY]
        assert page.evaluate("localStorage.length") == 0 and page.context.cookies() == []
        assert KEY not in page.content()
        page.reload()
        page.get_by_role("heading", name="tiny", level=2).wait_for()
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Forget the key").click()
        expect(field).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_texts_cannot_act_on_the_page(site: MakeSite, visit: Callable[..., Any]) -> None:
    """Markup, bidi marks, control characters and long lines, in messages, answers, tokens, names and errors."""
    with site() as server:
        page = visit(server, viewport={"width": 360, "height": 640})
        replace_answer(page, "begin ", HOSTILE, " end")
        write(page, HOSTILE.replace("\x00", ""))
        assert answered(page) == [f"begin {HOSTILE} end"]
        page.get_by_role("button", name="Probabilities").press("Enter")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tooltip")).to_contain_text("\\u{202e}abc\\u{202d}")
        page.unroute_all()
        refusal = json.dumps({"error": {"message": HOSTILE, "code": None}})
        page.route("**/v1/chat/completions", lambda route: route.fulfill(status=400, body=refusal))
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator(".turn .bad")).to_contain_text("<script>")
        assert page.title() == "tiny · gptctl" and page.locator("img, .turn script, .turn b").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.locator("main").evaluate("main => main.scrollWidth - main.clientWidth") == 0
        isolated = page.locator(".text").evaluate_all("found => found.map(one => getComputedStyle(one).unicodeBidi)")
        assert set(isolated) == {"plaintext"}
        card = {"id": HOSTILE, "chat": True, "max_model_len": 9}
        page.route("**/v1/models", lambda route: route.fulfill(json={"data": [card, {**card, "id": "<i>b</i>"}]}))
        page.reload()
        page.get_by_label("Model").select_option("<i>b</i>")
        expect(page.get_by_role("heading", level=1)).to_have_text("<i>b</i>")
        assert page.locator("img, i").count() == 0 and page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_policy_stops_what_is_put_into_the_page(site: MakeSite, visit: Callable[..., Any]) -> None:
    """Should a text ever become markup, the browser runs and loads nothing of it."""
    with site() as server:
        page = visit(server)
        refused = page.evaluate("""() => {
            try { document.body.innerHTML = "<b>x</b>"; return "put in" } catch (error) { return error.name }
        }""")
        assert refused == "TypeError"
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.append("document.title = 'taken'");
            try { document.body.append(script) } catch {}
            document.body.setAttribute("style", "color: red");
        }""")
        assert page.title() == "tiny · gptctl"
        assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
        elsewhere = "fetch('http://localhost:1/').then(() => 'sent', () => 'refused')"
        assert page.evaluate(elsewhere) == "refused"


def test_right_to_left(site: MakeSite, visit: Callable[..., Any]) -> None:
    """Texts have the direction of their letters, and so have the arrow keys between tokens."""
    with site() as server:
        page = visit(server)
        replace_answer(page, "שלום", " עולם")
        write(page, "مرحبا")
        answered(page)
        directions = page.locator(".text").evaluate_all("found => found.map(one => getComputedStyle(one).direction)")
        assert directions == ["rtl", "rtl"]
        assert page.locator("#text").evaluate("box => (box.value = 'שלום', getComputedStyle(box).direction)") == "rtl"
        page.get_by_role("button", name="Probabilities").press("Enter")
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("option").nth(1)).to_be_focused()


def test_screen_readers_hear_answers_once(site: MakeSite, visit: Callable[..., Any]) -> None:
    """The status says that an answer began and, when it is complete, its text; nothing else that changes is live."""
    with site() as server:
        page = visit(server)
        page.evaluate("""() => {
            window.heard = [];
            const status = document.querySelector("[role=status]");
            new MutationObserver(() => heard.push(status.textContent)).observe(status, {childList: true});
        }""")
        write(page, "the", Seed=3, Max_tokens=8)
        (text,) = answered(page)
        assert page.evaluate("heard") == ["Answering.", f"Answer complete. {text}"]
        live = page.locator("[aria-live], [role=log], [role=status]").evaluate_all("found => found.map(one => one.id)")
        assert live == ["status"]
        nameless = page.locator("button, input, select, textarea, main, form").evaluate_all(
            "found => found.filter(one => one.checkVisibility() && one.tagName !== 'FORM'"
            " && !(one.labels?.length || one.ariaLabel || one.textContent.trim())).map(one => one.outerHTML)"
        )
        assert nameless == []


def test_tab_goes_through_the_page_in_order(site: MakeSite, visit: Callable[..., Any]) -> None:
    """And where the focus is can be seen."""
    with site() as server:
        page = visit(server)
        write(page, "the", Seed=3, Max_tokens=3)
        answered(page)
        page.evaluate("document.activeElement.blur(); getSelection().setPosition(document.body, 0)")
        order = []
        for _ in range(10):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(one => [one.ariaLabel || one.labels?.[0]?.textContent || one.textContent.trim(),"
                " getComputedStyle(one).outlineStyle])(document.activeElement)"
            )
            assert focused[1] == "solid", focused
            order.append(focused[0])
        assert order == ["To the message", "New conversation", "Settings", "Conversation",
                         "Copy", "Probabilities", "Regenerate", "Edit", "Message", "Send"]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_contrast_and_motion(site: MakeSite, visit: Callable[..., Any], scheme: str) -> None:
    """At 360 pixels nothing is cut off; letters have a contrast of 4.5 and borders of 3; nothing blinks unasked."""
    with site(runs=False) as server:
        page = visit(server, viewport={"width": 360, "height": 640}, color_scheme=scheme, reduced_motion="reduce")
        write(page, "the")
        expect(page.locator(".busy")).to_have_count(1)
        animation = "getComputedStyle(document.querySelector('.busy .tokens'), '::after').animationName"
        assert page.evaluate(animation) == "none"
        page.get_by_role("button", name="Settings").click()
        outside = page.locator("body *").evaluate_all(
            "found => found.filter(one => one.checkVisibility() && !one.matches('.unseen, .unseen *')"
            " && one.getBoundingClientRect().right > 360).map(one => one.outerHTML)"
        )
        assert outside == []
        colours = page.evaluate("""() => {
            const read = (name) => {
                const probe = document.createElement("span");
                probe.style.color = `var(--${name})`;
                document.body.append(probe);
                const found = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
                probe.remove();
                return found;
            };
            return Object.fromEntries("page card ink muted edge bad accent on-accent".split(" ").map((name) => [name, read(name)]));
        }""")
        for back in ("page", "card"):
            assert all(contrast(colours[name], colours[back]) >= 4.5 for name in ("ink", "muted", "bad", "accent")), (
                colours
            )
            assert contrast(colours["edge"], colours[back]) >= 3, colours
        assert contrast(colours["on-accent"], colours["accent"]) >= 4.5


def contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast of two colours, as WCAG 2 defines it."""

    def luminance(colour: list[float]) -> float:
        parts = [value / 255 for value in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
