"""The chat page by keyboard and screen reader, on phones, in the dark, and in other directions of writing."""

from __future__ import annotations

import math

import pytest

from tests.serve.page.conftest import MakeSite, Visit, answered, expect, replace_answer, write


def test_probabilities(site: MakeSite, visit: Visit) -> None:
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
        p = math.exp(most["logprob"])
        share = f"{100 * p:#.{2 if p < 0.01 else 3}g} %"
        expect(tip.locator(".chosen td").nth(1)).to_have_text(share)
        assert share in page.get_by_role("option").first.get_attribute("aria-label")
        page.keyboard.press("Escape")
        expect(tip).to_be_hidden()
        expect(button).to_be_focused()
        expect(page.get_by_role("option")).to_have_count(0)


def test_right_to_left(site: MakeSite, visit: Visit) -> None:
    """Texts have the direction of their letters, and so have the arrow keys between tokens."""
    with site() as server:
        page = visit(server)
        replace_answer(page, "שלום", " עולם")
        write(page, "مرحبا")
        answered(page)
        directions = page.locator(".text").evaluate_all("found => found.map(one => getComputedStyle(one).direction)")
        assert directions == ["rtl", "rtl"]
        assert (
            page.locator("#message").evaluate("box => (box.value = 'שלום', getComputedStyle(box).direction)") == "rtl"
        )
        page.get_by_role("button", name="Probabilities").press("Enter")
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("option").nth(1)).to_be_focused()


def test_screen_readers_hear_answers_once(site: MakeSite, visit: Visit) -> None:
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


def test_tab_goes_through_the_page_in_order(site: MakeSite, visit: Visit) -> None:
    """And where the focus is can be seen."""
    with site() as server:
        page = visit(server)
        write(page, "the", Seed=3, Max_tokens=3)
        answered(page)
        page.get_by_role("link", name="To the message").focus()
        order = []
        for _ in range(9):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(one => [one.ariaLabel || one.labels?.[0]?.textContent || one.textContent.trim(),"
                " getComputedStyle(one).outlineStyle])(document.activeElement)"
            )
            assert focused[1] == "solid", (order, focused)
            order.append(focused[0])
        assert order == ["New conversation", "Settings", "Conversation",
                         "Copy", "Probabilities", "Regenerate", "Edit", "Message", "Send"]  # fmt: skip
        button = page.get_by_role("button", name="Regenerate")
        button.press("Enter")
        answered(page)
        expect(button).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_contrast_and_motion(site: MakeSite, visit: Visit, scheme: str) -> None:
    """At 360 pixels nothing is cut off; letters have a contrast of 4.5 and borders of 3; nothing blinks unasked."""
    with site(runs=False) as server:
        page = visit(server, viewport={"width": 360, "height": 640}, color_scheme=scheme, reduced_motion="reduce")
        write(page, "the")
        expect(page.locator(".running")).to_have_count(1)
        animation = "getComputedStyle(document.querySelector('.running .tokens'), '::after').animationName"
        assert page.evaluate(animation) == "none"
        page.get_by_role("button", name="Settings").click()
        outside = page.locator("body *").evaluate_all(
            "found => found.filter(one => one.checkVisibility() && !one.matches('.visually-hidden')"
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
            return Object.fromEntries("page card ink muted edge error accent on-accent".split(" ").map((name) => [name, read(name)]));
        }""")
        for back in ("page", "card"):
            assert all(contrast(colours[name], colours[back]) >= 4.5 for name in ("ink", "muted", "error", "accent")), (
                colours
            )
            assert contrast(colours["edge"], colours[back]) >= 3, colours
        assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
        page.keyboard.press("Shift+Tab")
        expect(page.get_by_role("button", name="Settings")).to_be_focused()
        page.close()


def contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast of two colours, as WCAG 2 defines it."""

    def luminance(colour: list[float]) -> float:
        parts = [value / 255 for value in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
