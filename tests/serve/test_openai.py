"""OpenAI's own client, in this process and through a socket."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("openai", reason="the extra test is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

import openai

from gptctl.infer.decoder import Decoder
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.serve.app import make_app
from gptctl.serve.guard import Access
from gptctl.serve.jobs import ServedModel
from gptctl.serve.scheduler import Scheduler
from gptctl.serve.server import Address, WebThread, run
from tests.serve.conftest import Serve

MESSAGES: list[Any] = [{"role": "user", "content": "the"}]


def client_of(transport: Any, key: str = "none", **more: Any) -> Any:
    """OpenAI's client, which talks to an application in this process."""
    return openai.OpenAI(base_url="http://localhost/v1", api_key=key, http_client=transport, max_retries=0, **more)


def test_answers_are_those_of_generate(serve: Serve, generator: TextGenerator) -> None:
    """Completions and chat, whole and streamed, with every parameter that the client types."""
    params = SamplingParams(max_tokens=12, seed=3, temperature=0.7, top_p=0.9)
    settings: dict[str, Any] = {"model": "tiny", "seed": 3, "temperature": 0.7, "top_p": 0.9, "n": 2}
    text = [made.text for made in generator.generate(generator.encode(["the"], 12), params, samples_per_prompt=2)[0]]
    chat = [
        made.text for made in generator.generate(generator.encode_chat(["the"], 12), params, samples_per_prompt=2)[0]
    ]
    with serve() as transport:
        client = client_of(transport)
        assert [model.id for model in client.models.list()] == ["tiny"]
        made = client.completions.create(prompt="the", max_tokens=12, **settings)
        assert [choice.text for choice in made.choices] == text
        answer = client.chat.completions.create(messages=MESSAGES, max_completion_tokens=12, **settings)
        assert [choice.message.content for choice in answer.choices] == chat
        pieces = ["", ""]
        for chunk in client.completions.create(prompt="the", max_tokens=12, stream=True, **settings):
            for choice in chunk.choices:
                pieces[choice.index] += choice.text
        assert pieces == text
        pieces, used = ["", ""], None
        for chunk in client.chat.completions.create(
            messages=MESSAGES, max_tokens=12, stream=True, stream_options={"include_usage": True}, **settings
        ):
            used = chunk.usage
            for choice in chunk.choices:
                pieces[choice.index] += choice.delta.content or ""
        assert pieces == chat and used == answer.usage
        scored = client.chat.completions.create(
            messages=MESSAGES, model="tiny", max_tokens=4, temperature=0, logprobs=True, top_logprobs=2, stop=["\0"],
            presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"5": -100},
            extra_body={"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1},
        )  # fmt: skip
        assert len(scored.choices[0].logprobs.content) == 4


def test_errors_are_those_of_the_client(serve: Serve) -> None:
    """Each status has its exception, with the message and the parameter."""
    with serve(("right",)) as transport:
        client = client_of(transport, "right")
        with pytest.raises(openai.NotFoundError, match="'gpt-4' does not exist"):
            client.completions.create(model="gpt-4", prompt="the")
        with pytest.raises(openai.BadRequestError, match="suffix: this parameter is not supported") as caught:
            client.completions.create(model="tiny", prompt="the", suffix="end")
        assert caught.value.param == "suffix"
        with pytest.raises(openai.AuthenticationError):
            client_of(transport, "wrong").models.list()


@pytest.mark.slow
def test_a_client_that_goes_away_and_an_end_that_waits(generator: TextGenerator) -> None:
    """Through a socket: a stream that is closed frees its place; after a signal what runs is finished."""
    model, decoder = ServedModel(generator, "tiny", SamplingParams()), generator.engine.model
    assert isinstance(decoder, Decoder)
    scheduler = Scheduler(decoder, model.tokenizer, model.stop_ids, 2, 4)
    stopped, finished = threading.Event(), list[bool]()
    endless: dict[str, Any] = {"model": "tiny", "prompt": "the", "max_tokens": 200, "seed": 1,
                               "logit_bias": {str(model.stop_ids[0]): -100}}  # fmt: skip
    with Address("127.0.0.1", 0).listen() as listening:
        web = WebThread(make_app(model, scheduler, Access()), listening, 16)
        web.start()
        main = threading.Thread(target=lambda: finished.append(run(scheduler, web, stopped.is_set, 60)))
        main.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        for _ in range(3):
            stream = client.completions.create(stream=True, **endless)
            next(iter(stream))
            stream.close()
        while not scheduler.is_idle:
            pass
        gone = scheduler.metrics.cancelled
        stream = client.completions.create(stream=True, **endless)
        first = next(iter(stream)).choices[0].text
        stopped.set()
        text = first + "".join(chunk.choices[0].text for chunk in stream)
        main.join()
    assert 1 <= gone <= 3 and finished == [True] and not web.is_alive()
    prompt = generator.encode(["the"], 1)[0]
    assert text.startswith(first) and scheduler.metrics.prompt_tokens == 4 * len(prompt)
