"""Conversations in the chat page: what it sends to the server and shows of the answers."""

from __future__ import annotations

from tests.serve.conftest import CONTEXT
from tests.serve.page.conftest import MakeSite, Visit, answered, expect, replace_answer, wait_until, write


def test_a_conversation(site: MakeSite, visit: Visit) -> None:
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
        expect(page.locator(".running")).to_have_count(0)
        assert page.sent[2] == page.sent[1] and len(answered(page, 2)) == 2
        page.get_by_role("textbox").fill("a draft")
        page.get_by_role("button", name="Edit").locator("visible=true").click()
        expect(page.locator(".turn")).to_have_count(1)
        expect(page.get_by_label("Message", exact=True)).to_have_value("second\na draft")
        write(page, "third")
        answered(page, 2)
        expect(page.locator(".user .text")).to_have_text(["the\nother", "third"])
        assert page.sent[3]["messages"] == [*history, {"role": "user", "content": "third"}]
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator(".turn")).to_have_count(0)
        page.get_by_role("button", name="Back to the last conversation").click()
        expect(page.locator(".turn")).to_have_count(2)


def test_a_model_without_a_template_continues_text(site: MakeSite, visit: Visit) -> None:
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
        expect(page.locator(".running")).to_have_count(0)
        text = answered(page, 2)[1]
        assert page.sent[2]["prompt"] == "other" + first
        assert text == first + server.post(page.sent[2])["choices"][0]["text"]
        expect(page.locator(".prompt").last).to_have_text("other")


def test_settings(site: MakeSite, visit: Visit) -> None:
    """Those that are set are sent; the others show what the model has; wrong ones are not sent."""
    with site() as server:
        page = visit(server)
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("Top p")).to_have_attribute("placeholder", "0.9")
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
            "logprobs": True,
            "top_logprobs": 5,
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


def test_an_answer_is_stopped(site: MakeSite, visit: Visit) -> None:
    """By Escape and by the button. Its place is freed, and what there is stays in the conversation."""
    with site(runs=False) as server:
        page = visit(server)
        scheduler = server.scheduler
        for number, stop in enumerate(
            (lambda: page.keyboard.press("Escape"), page.get_by_role("button", name="Stop").click)
        ):
            write(page, "the", Seed=3)
            wait_until(page, lambda: not scheduler.is_idle)
            for _ in range(8):
                scheduler.step()
            expect(page.locator(".running .figures")).to_contain_text("token")
            (sample,) = scheduler.samples()
            stop()
            expect(page.locator(".figures").last).to_contain_text("stopped")
            wait_until(page, lambda sample=sample: sample.job.cancelled)
            scheduler.step()
            assert scheduler.is_idle and scheduler.metrics.cancelled == number + 1
        assert [message["role"] for message in page.sent[1]["messages"]] == ["user", "assistant", "user"]
        assert page.sent[1]["messages"][1]["content"] == page.locator(".tokens").first.text_content()


def test_refusals_are_shown_and_lose_nothing(site: MakeSite, visit: Visit) -> None:
    """The server's sentence, with what to do; what was not answered is not part of the conversation."""
    with site() as server:
        page = visit(server)
        alert = page.locator(".turn .error")
        write(page, "the " * CONTEXT, Max_tokens=3)
        expect(alert).to_contain_text("the model's context is 256 tokens")
        expect(alert).to_contain_text("Start a new conversation, or write less.")
        server.scheduler.submit = lambda jobs: False  # as when the queue is full
        write(page, "the")
        expect(alert.last).to_have_text("Not answered: the queue is full; try again later (429).")
        del server.scheduler.submit
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
        expect(alert.last).to_have_text("Not answered: the server is shutting down (503).")
        page.unroute_all()
        for end, said in (
            ('data: {"error": {"message": "broken"}}\n\n', "broken"),
            ("", "The connection ended before the answer did."),
        ):
            replace_answer(page, "some", end=end)
            page.get_by_role("button", name="Try again").locator("visible=true").click()
            expect(alert.last).to_have_text(f"Not answered: {said}")
            assert answered(page, 2)[1] == "some"
