"""The chat page runs nothing but its own script: headers, keys, and texts that try to act."""

from __future__ import annotations

import json

from tests.serve.conftest import Serve
from tests.serve.page.conftest import MakeSite, Visit, answered, expect, replace_answer, write

KEY = "secret-key"
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\n"
    "\u202eabc\u202d \u2067def \u2028 javascript:alert(1) &lt;b&gt;\x00\x1b[31m\n" + "long" * 2000
)


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


def test_keys(site: MakeSite, visit: Visit) -> None:
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
        assert page.evaluate("Object.entries(sessionStorage)") == [["api-key", KEY]]
        assert page.evaluate("localStorage.length") == 0 and page.context.cookies() == []
        assert KEY not in page.content()
        page.reload()
        page.get_by_role("heading", name="tiny", level=2).wait_for()
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Forget the key").click()
        expect(field).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_texts_cannot_act_on_the_page(site: MakeSite, visit: Visit) -> None:
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
        expect(page.locator(".turn .error")).to_contain_text("<script>")
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


def test_the_policy_stops_what_is_put_into_the_page(site: MakeSite, visit: Visit) -> None:
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
