"""The endpoints: answers as OpenAI's interface has them, the same as those of `generate`, and refusals by name."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from tests.serve.conftest import CONTEXT, Serve

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "the"}], "max_tokens": 12, "seed": 3}
TEXT = {"model": "tiny", "prompt": "the", "max_tokens": 12, "seed": 3}


def expected(generator: TextGenerator, prompt: str, samples: int = 1, **params: Any) -> list[str]:
    """The texts that `generate` returns."""
    settings = SamplingParams(**{"max_tokens": 12, "seed": 3, **params})
    prompts = generator.encode([prompt], settings.max_tokens)
    return [made.text for made in generator.generate(prompts, settings, samples_per_prompt=samples)[0]]


def streamed(client: Any, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks of a stream, which ends with [DONE]."""
    answer = client.post(path, json={**body, "stream": True})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"top_p": 0.8, "temperature": 1.2},
        {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.5},
    ],
)
def test_a_completion_is_that_of_generate(serve: Serve, generator: TextGenerator, settings: dict[str, Any]) -> None:
    """Whole and streamed, several samples, with the numbers of tokens."""
    with serve() as client:
        answer = client.post("/v1/completions", json={**TEXT, **settings, "n": 3}).json()
        texts = expected(generator, "the", 3, **settings)
        assert [choice["text"] for choice in answer["choices"]] == texts
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert answer["object"] == "text_completion" and answer["model"] == "tiny"
        assert answer["usage"]["prompt_tokens"] == len(generator.encode(["the"], 12)[0])
        chunks = streamed(
            client, "/v1/completions", {**TEXT, **settings, "n": 3, "stream_options": {"include_usage": True}}
        )
        for index, text in enumerate(texts):
            mine = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
            assert "".join(choice["text"] for choice in mine) == text
            assert [choice["finish_reason"] for choice in mine[:-1]] == [None] * (len(mine) - 1)
            assert mine[-1]["finish_reason"] == answer["choices"][index]["finish_reason"]
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == answer["usage"]
        assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_chat(serve: Serve, generator: TextGenerator) -> None:
    """By the template, with text or parts; the default length is the rest of the context."""
    prompt = generator.encode_chat(["the"], 12)
    text = generator.generate(prompt, SamplingParams(max_tokens=12, seed=3))[0][0].text
    with serve() as client:
        answer = client.post("/v1/chat/completions", json=CHAT).json()
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": text, "refusal": None}
        parts = [{"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "text", "text": "he"}]}]
        same = client.post("/v1/chat/completions", json={**CHAT, "messages": parts}).json()
        assert same["choices"] == answer["choices"]
        chunks = streamed(client, "/v1/chat/completions", CHAT)
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
        long = client.post("/v1/chat/completions", json={"model": "tiny", "messages": CHAT["messages"], "seed": 1,
                                                         "logit_bias": {str(generator.stop_ids[0]): -100}}).json()  # fmt: skip
        assert long["usage"]["total_tokens"] == CONTEXT and long["choices"][0]["finish_reason"] == "length"


def test_prompts_of_every_kind(serve: Serve, generator: TextGenerator) -> None:
    """Token ids are read as they are; sample j of prompt i is sample i * n + j of the seed."""
    ids = generator.encode(["the"], 12)[0]
    with serve() as client:
        one = client.post("/v1/completions", json=TEXT).json()["choices"][0]["text"]
        assert client.post("/v1/completions", json={**TEXT, "prompt": ids}).json()["choices"][0]["text"] == one
        both = client.post("/v1/completions", json={**TEXT, "prompt": ["the", "the"], "n": 2}).json()
        assert [choice["text"] for choice in both["choices"]] == expected(generator, "the", 4)
        lists = client.post("/v1/completions", json={**TEXT, "prompt": [ids, ids], "n": 2}).json()
        assert lists["choices"] == both["choices"] and lists["usage"] == both["usage"]


def test_stops_and_their_reasons(serve: Serve, generator: TextGenerator) -> None:
    """A text, a token of the model."""
    text = expected(generator, "the")[0]
    with serve() as client:
        stopped = client.post("/v1/completions", json={**TEXT, "stop": ["\0\0", text[2:4]]}).json()["choices"][0]
        assert (stopped["text"], stopped["finish_reason"]) == (text[: text.index(text[2:4])], "stop")
        bias = {str(generator.stop_ids[0]): 100}
        ended = client.post("/v1/completions", json={**TEXT, "logit_bias": bias}).json()
        assert (ended["choices"][0]["text"], ended["choices"][0]["finish_reason"]) == ("", "stop")


def test_echo_with_logprobs_is_what_lm_eval_reads(serve: Serve, generator: TextGenerator) -> None:
    """The first token has none, also after BOS. The others are those of a forward pass."""
    ids = generator.encode(["the other"], 1)[0]
    with serve() as client:
        body = {
            "model": "tiny",
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "echo": True,
            "seed": 1,
        }
        whole = client.post("/v1/completions", json=body).json()["choices"][0]
        scores = whole["logprobs"]["token_logprobs"]
        assert scores[0] is None and len(scores) == len(ids) + 1 and whole["logprobs"]["top_logprobs"][0] is None
        for place in range(1, len(ids)):
            shorter = {**body, "prompt": ids[:place], "echo": False, "logprobs": 20}
            best = client.post("/v1/completions", json=shorter).json()["choices"][0]["logprobs"]
            ((token, logprob),) = whole["logprobs"]["top_logprobs"][place].items()
            assert best["tokens"] == [token] and best["token_logprobs"][0] == pytest.approx(logprob, abs=1e-4)
        text = client.post("/v1/completions", json={**body, "prompt": "the other", "max_tokens": 0}).json()["choices"][
            0
        ]
        assert text["text"] == "the other" and text["finish_reason"] == "length"
        assert text["logprobs"]["token_logprobs"] == [None, *scores[2:-1]]
        offsets, tokens = text["logprobs"]["text_offset"], text["logprobs"]["tokens"]
        assert ["the other"[at : at + len(token)] for at, token in zip(offsets, tokens, strict=True)] == tokens


def test_logprobs_of_chat(serve: Serve) -> None:
    """Of each token, with the most likely ones; greedy takes the first of them."""
    with serve() as client:
        body = {**CHAT, "temperature": 0, "logprobs": True, "top_logprobs": 3}
        content = client.post("/v1/chat/completions", json=body).json()["choices"][0]["logprobs"]["content"]
        assert len(content) == 12
        for token in content:
            assert len(token["top_logprobs"]) == 3 and token["logprob"] == token["top_logprobs"][0]["logprob"]
        chunks = streamed(client, "/v1/chat/completions", body)
        parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
        assert [one for part in parts if part for one in part["content"]] == content


def test_requests_at_once_equal_their_lone_runs(serve: Serve) -> None:
    """More than there are places, of different lengths and settings, bit for bit."""
    bodies = [
        {**TEXT, "prompt": "the " * (number + 1), "max_tokens": 5 + 3 * number, "seed": number, "logprobs": 2,
         "temperature": number / 4, "presence_penalty": number % 2, "n": 1 + number % 3}
        for number in range(8)
    ]  # fmt: skip
    with serve(max_batch=4) as client:

        def choices(body: dict[str, Any]) -> Any:
            return client.post("/v1/completions", json=body).json()["choices"]

        alone = [choices(body) for body in bodies]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(choices, bodies)) == alone


def test_tokens_models_health_and_metrics(serve: Serve, generator: TextGenerator) -> None:
    """What clients read beside completions."""
    with serve() as client:
        (card,) = client.get("/v1/models").json()["data"]
        assert (card["id"], card["object"], card["max_model_len"]) == ("tiny", "model", CONTEXT)
        tokens = client.post("/tokenize", json={"prompt": "the"}).json()
        assert tokens == {
            "count": len(tokens["tokens"]),
            "max_model_len": CONTEXT,
            "tokens": generator.encode(["the"], 1)[0],
        }
        bare = client.post("/tokenize", json={"prompt": "the", "add_special_tokens": False}).json()["tokens"]
        assert client.post("/detokenize", json={"tokens": bare}).json() == {"prompt": "the"}
        chat = client.post("/tokenize", json={"messages": CHAT["messages"]}).json()["tokens"]
        assert chat == generator.encode_chat(["the"], 1)[0]
        assert client.get("/health").json() == {"status": "ok"}
        client.post("/v1/completions", json=TEXT)
        client.get("/nowhere")
        while not client.scheduler.is_idle:  # the step that sent the last token may not have ended
            pass
        text = client.get("/metrics").text
        for line in (
            'gptctl_requests_total{path="/v1/completions",status="200"} 1',
            'gptctl_requests_total{path="other",status="404"} 1',
            "gptctl_generated_tokens_total 12",
            "gptctl_running_samples 0",
        ):
            assert line in text.splitlines()
        client.scheduler.close()
        assert client.get("/health").status_code == 503
        assert client.post("/v1/completions", json=TEXT).status_code == 503


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-4"}, 404, "model", "'gpt-4' does not exist; this server has 'tiny'"),
    ({"best_of": 2}, 400, "best_of", "best_of: this parameter is not supported"),
    ({"top_p": 0}, 400, "top_p", "top_p: Input should be greater than 0"),
    ({"temperature": "1"}, 400, "temperature", "temperature: Input should be a valid number"),
    ({"n": 5}, 400, "n", "n: at most 4 on this server"),
    ({"max_tokens": CONTEXT}, 400, "prompt", "the model's context is 256 tokens"),
    ({"prompt": []}, 400, "prompt", "prompt"),
    ({"prompt": [10**6]}, 400, "prompt", "the token id 1000000 is not below"),
    ({"prompt": ["a"] * 9}, 400, "prompt", "at most 8 prompts"),
    ({"stop": [""]}, 400, "stop", "at least 1 character"),
    ({"stop": ["a"] * 17}, 400, "stop", "at most 16"),
    ({"logit_bias": {"a": 1}}, 400, "logit_bias", "keys are token ids"),
    ({"logit_bias": {"9" * 5000: 1}}, 400, "logit_bias", "at most 10 characters"),
    ({"repetition_penalty": 1e300}, 400, "repetition_penalty", "less than or equal to 100"),
    ({"max_tokens": 10**400}, 400, "prompt", "are to follow"),
    ({"stream_options": {"include_usage": True}}, 400, None, "stream_options need stream=true"),
    ({"stream": True, "stream_options": {"usage": True}}, 400, "stream_options", "usage: this parameter"),
]


@pytest.mark.parametrize(("change", "status", "param", "said"), REFUSED)
def test_what_is_refused(serve: Serve, change: dict[str, Any], status: int, param: str | None, said: str) -> None:
    """With the shape of OpenAI's errors. Nothing that was asked for is ignored."""
    with serve() as client:
        answer = client.post("/v1/completions", json={**TEXT, **change})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param)
        assert said in error["message"] and error["type"] == "invalid_request_error"


def test_what_chat_refuses(serve: Serve) -> None:
    """Among it what is not built."""
    with serve() as client:
        for change, said in (
            ({"tools": []}, "tools: this parameter is not supported"),
            ({"response_format": {"type": "json_object"}}, "response_format: this parameter is not supported"),
            ({"top_logprobs": 2}, "top_logprobs needs logprobs=true"),
            ({"max_completion_tokens": 5}, "max_tokens and max_completion_tokens differ"),
            ({"messages": [{"role": "tool", "content": "1"}]}, "messages.0.role"),
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
                "messages.0.content",
            ),
        ):
            answer = client.post("/v1/chat/completions", json={**CHAT, **change})
            assert answer.status_code == 400 and said in answer.json()["error"]["message"], change


def test_bodies_methods_and_paths(serve: Serve) -> None:
    """Each with its status and the shape of an error."""
    with serve() as client:
        for answer, status in (
            (client.post("/v1/completions", content=b"{", headers={"Content-Type": "application/json"}), 400),
            (client.post("/v1/completions", content=b"{}", headers={"Content-Type": "text/plain"}), 415),
            (client.post("/v1/completions", json={**TEXT, "prompt": "a" * 5 * 2**20}), 413),
            (client.get("/v1/completions"), 405),
            (client.options("/v1/completions"), 405),
            (client.get("/v1/nowhere"), 404),
        ):
            assert answer.status_code == status and answer.json()["error"]["message"]
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_who_may_use_it(serve: Serve) -> None:
    """A key, if there are any; no page of another server; no name that was made to point here."""
    with serve(("first", "second")) as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic first"}, 401),
            ({"Authorization": "Bearer second"}, 200),
            ({"Authorization": "Bearer first", "Host": "example.org"}, 200),
            ({"Authorization": "Bearer first", "Host": "[::1]:8000"}, 200),
            ({"Authorization": "Bearer first", "Host": "elsewhere.net"}, 403),
            ({"Authorization": "Bearer first", "Origin": "http://elsewhere.net"}, 403),
            ({"Authorization": "Bearer first", "Origin": "null"}, 403),
            ({"Authorization": "Bearer first", "Origin": "http://localhost"}, 200),
        ):
            answer = client.get("/v1/models", headers=headers)
            assert answer.status_code == status, headers
        assert client.get("/health").status_code == 200
        assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"


def test_a_full_queue_refuses_and_says_when_to_come_back(serve: Serve) -> None:
    """Nothing generates here, so what is sent waits."""
    with serve(max_queue=2, runs=False) as client:
        threads = [threading.Thread(target=client.post, args=("/v1/completions",), kwargs={"json": TEXT}) for _ in "ab"]
        for thread in threads:
            thread.start()
        while len(client.scheduler.waiting) < 2:
            pass
        refused = client.post("/v1/completions", json=TEXT)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        while client.scheduler.step():
            pass
        for thread in threads:
            thread.join()
