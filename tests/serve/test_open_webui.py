"""The calls that Open WebUI makes to a server that it knows as OpenAI-compatible, as its backend writes them."""

from __future__ import annotations

import json
from typing import Any

from tests.serve.conftest import CONTEXT, Serve

# What Open WebUI sends with each request, with the names of its user, which it can be told to forward.
HEADERS = {
    "Content-Type": "application/json",
    "Authorization": "Bearer secret-key",
    "X-OpenWebUI-User-Name": "Ada%20Lovelace",
    "X-OpenWebUI-User-Id": "1",
    "X-OpenWebUI-User-Email": "ada@example.org",
    "X-OpenWebUI-User-Role": "admin",
    "X-OpenWebUI-Chat-Id": "2",
}
QUESTION = {"role": "user", "content": "the"}


def stream(client: Any, body: Any) -> tuple[str, Any]:
    """Return the text of a streamed answer and its usage, which are read as Open WebUI reads them."""
    with client.stream("POST", "/v1/chat/completions", content=json.dumps(body), headers=HEADERS) as answer:
        assert answer.status_code == 200 and "text/event-stream" in answer.headers["Content-Type"]
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    return text, next(chunk["usage"] for chunk in chunks if chunk.get("usage"))


def test_connecting(serve: Serve) -> None:
    """The list of models, of which each needs an id; a wrong key is an error in JSON."""
    with serve(("secret-key",)) as client:
        listed = client.get("/v1/models", headers=HEADERS).json()
        assert [model["id"] for model in listed["data"]] == ["tiny"] and "error" not in listed
        refused = client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401 and refused.json()["error"]["message"]


def test_chats(serve: Serve) -> None:
    """A new chat, one with all settings of a model, and one that goes on after an answer that was stopped at once."""
    streamed = {"stream": True, "model": "tiny", "stream_options": {"include_usage": True}}
    settings = {
        "temperature": 0.8, "top_p": 0.9, "min_p": 0.0, "top_k": 40, "max_tokens": 12, "frequency_penalty": 0.0,
        "presence_penalty": 0.0, "seed": 3, "stop": ["\n\n"], "logit_bias": {"5": -100},
    }  # fmt: skip
    with serve(("secret-key",)) as client:
        text, usage = stream(client, streamed | {"messages": [QUESTION], "max_tokens": 9})
        assert usage["completion_tokens"] <= 9 and usage["total_tokens"] <= CONTEXT
        told = {"role": "system", "content": "Be brief"}
        whole = settings | {"model": "tiny", "messages": [told, QUESTION]}
        text, usage = stream(client, streamed | whole)
        answer = client.post("/v1/chat/completions", json=whole, headers=HEADERS).json()
        assert answer["choices"][0]["message"]["content"] == text and answer["usage"] == usage
        parts = {"role": "user", "content": [{"type": "text", "text": "the"}]}
        messages = [QUESTION, {"role": "assistant", "content": ""}, parts]
        assert stream(client, streamed | {"messages": messages, "max_tokens": 9})[1]["completion_tokens"] <= 9


def test_titles_tags_and_questions_that_follow(serve: Serve) -> None:
    """Short requests that are not streamed; a title has max_completion_tokens, which must fit as it does elsewhere."""
    task = {"model": "tiny", "messages": [QUESTION], "stream": False}
    with serve(("secret-key",)) as client:
        for more in ({}, {"max_completion_tokens": 100}):
            answer = client.post("/v1/chat/completions", json=task | more, headers=HEADERS).json()
            assert isinstance(answer["choices"][0]["message"]["content"], str)
        refused = client.post("/v1/chat/completions", json=task | {"max_completion_tokens": 1000}, headers=HEADERS)
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
