"""The endpoints of a server, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gptctl.serve.answers import Answer, ChatAnswer, CompletionAnswer, Json, echoed, usage
from gptctl.serve.guard import JOBS, Access, App, Guard, cancel, error_response
from gptctl.serve.jobs import Prompt, ServedModel
from gptctl.serve.metrics import CONTENT_TYPE
from gptctl.serve.page import page
from gptctl.serve.requests import (
    Body,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    Generation,
    RequestError,
    TokenizeRequest,
    parse,
)
from gptctl.serve.scheduler import Event, Failed, Job, Piece, PromptRead, Scheduler

MAX_BODY_BYTES = 4 * 2**20
BODY_SECONDS = 30  # in which a request must have arrived
RETRY_SECONDS = 1
GONE = "the client went away"


class Inbox:
    """What the thread that generates tells a request, which waits in the event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()

    def put(self, number: int, event: Event) -> None:
        """Pass an event of job `number` on, from any thread. The loop is closed when the server has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.queue.put_nowait, (number, event))

    async def watch(self, request: Request) -> None:
        """End the events when the client goes away."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.queue.put_nowait(None)

    async def events(self, choices: int) -> AsyncIterator[tuple[int, Event]]:
        """Yield events until all choices have ended. Raises RequestError if a prompt fails or the client is gone."""
        while choices:
            found = await self.queue.get()
            if found is None:
                raise RequestError(GONE, status=499)
            if isinstance(found[1], Failed):
                raise RequestError(found[1].error.message, status=500)
            choices -= isinstance(found[1], Piece) and found[1].finish_reason is not None
            yield found


class Work:
    """A request that was accepted: its prompts, and the events that answer it."""

    def __init__(self, body: Generation, prompts: list[Prompt], answer: Answer, inbox: Inbox) -> None:
        self.body, self.prompts, self.answer, self.inbox = body, prompts, answer, inbox
        self.samples = body.n or 1
        self.echo = isinstance(body, CompletionRequest) and bool(body.echo)
        self.generated = 0

    def parts(self, number: int, event: Event) -> list[tuple[int, str, list[Any], str | None]]:
        """Return what an event adds: choice, text, tokens, and why the choice ends."""
        first = number * self.samples
        if isinstance(event, Piece):
            self.generated += len(event.tokens)
            return [(first + event.sample, event.text, event.tokens, event.finish_reason)]
        if isinstance(event, PromptRead) and self.echo:
            prompt = self.prompts[number]
            tokens = echoed(prompt, event.scores)
            return [(first + sample, prompt.text, tokens, None) for sample in range(self.samples)]
        return []

    async def whole(self) -> Json:
        """Return the whole answer."""
        texts, tokens, reasons = [""] * self.choices, [list[Any]() for _ in range(self.choices)], [""] * self.choices
        async for number, event in self.inbox.events(self.choices):
            for choice, text, more, reason in self.parts(number, event):
                texts[choice] += text
                tokens[choice] += more
                reasons[choice] = reason or ""
        choices = [
            self.answer.whole(choice, *parts) for choice, parts in enumerate(zip(texts, tokens, reasons, strict=True))
        ]
        return self.answer.envelope(choices, False) | {"usage": usage(self.prompts, self.generated)}

    async def stream(self) -> AsyncIterator[str]:
        """Yield the answer as server-sent events."""
        wants_usage = self.body.includes_usage()
        more = {"usage": None} if wants_usage else {}
        for choice in range(self.choices):
            for begun in self.answer.begin(choice):
                yield server_sent(self.answer.envelope([begun], True) | more)
        try:
            async for number, event in self.inbox.events(self.choices):
                for part in self.parts(number, event):
                    yield server_sent(self.answer.envelope([self.answer.chunk(*part)], True) | more)
        except RequestError as error:  # the status has been sent
            yield server_sent(error.body())
            return
        if wants_usage:
            yield server_sent(self.answer.envelope([], True) | {"usage": usage(self.prompts, self.generated)})
        yield "data: [DONE]\n\n"

    @property
    def choices(self) -> int:
        """How many choices the answer has."""
        return self.samples * len(self.prompts)


def server_sent(value: Json) -> str:
    """Return JSON as a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


class Endpoints:
    """The endpoints of one model."""

    def __init__(self, model: ServedModel, scheduler: Scheduler) -> None:
        self.model, self.scheduler = model, scheduler

    async def completions(self, request: Request) -> Response:
        """Continue prompts."""
        body: CompletionRequest = await read(request, CompletionRequest)
        self.model.check_name(body.model)
        prompts = await asyncio.to_thread(self.model.prompts, body)
        answer = CompletionAnswer(self.model.name, self.model.tokenizer, body.logprobs is not None)
        return await self.answer(request, body, prompts, answer)

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        body: ChatRequest = await read(request, ChatRequest)
        self.model.check_name(body.model)
        prompt = await asyncio.to_thread(self.model.conversation, body.messages)
        return await self.answer(
            request, body, [prompt], ChatAnswer(self.model.name, self.model.tokenizer, bool(body.logprobs))
        )

    async def answer(self, request: Request, body: Generation, prompts: list[Prompt], answer: Answer) -> Response:
        """Generate what a request asks for. Raises RequestError (429) if the queue is full, (503) at the end."""
        scheduler, samples = self.scheduler, body.n or 1
        if samples > scheduler.max_batch:
            raise RequestError(f"n: at most {scheduler.max_batch} on this server", "n")
        if len(prompts) > scheduler.max_queue:
            raise RequestError(f"prompt: at most {scheduler.max_queue} prompts on this server", "prompt")
        inbox, settings = Inbox(), self.model.row_params(body, prompts)
        work = Work(body, prompts, answer, inbox)
        jobs = [
            Job(prompt.tokens, params, partial(inbox.put, number), samples, number * samples, work.echo)
            for number, (prompt, params) in enumerate(zip(prompts, settings, strict=True))
        ]
        request.scope[JOBS].extend(jobs)
        if not scheduler.submit(jobs):
            if scheduler.closed:
                raise RequestError("the server is shutting down", status=503)
            raise RequestError("the queue is full; try again later", status=429, Retry_After=str(RETRY_SECONDS))
        if body.stream:
            headers = {"Cache-Control": "no-cache"}
            return StreamingResponse(work.stream(), media_type="text/event-stream", headers=headers)
        watching = asyncio.create_task(inbox.watch(request))
        try:
            return JSONResponse(await work.whole())
        finally:
            watching.cancel()
            cancel(jobs)

    async def models(self, request: Request) -> Response:
        """List the one model."""
        card = {"id": self.model.name, "object": "model", "created": 0, "owned_by": "gptctl"}
        return JSONResponse({"object": "list", "data": [card | self.model.card()]})

    async def tokenize(self, request: Request) -> Response:
        """Return the tokens of a text or a conversation."""
        body: TokenizeRequest = await read(request, TokenizeRequest)
        self.model.check_name(body.model)
        if body.messages is not None:
            tokens = (await asyncio.to_thread(self.model.conversation, body.messages)).tokens
        else:
            prompt = await asyncio.to_thread(self.model.text_prompt, body.prompt or "")
            tokens = prompt.tokens if body.add_special_tokens else prompt.tokens[prompt.prefix :]
        return JSONResponse({"count": len(tokens), "max_model_len": self.model.context, "tokens": tokens})

    async def detokenize(self, request: Request) -> Response:
        """Return the text of tokens."""
        body: DetokenizeRequest = await read(request, DetokenizeRequest)
        self.model.check_name(body.model)
        return JSONResponse({"prompt": self.model.decode(body.tokens, "tokens")})

    async def health(self, request: Request) -> Response:
        """Say that requests are taken, or 503."""
        closed = self.scheduler.closed
        return JSONResponse({"status": "ending" if closed else "ok"}, 503 if closed else 200)

    async def metrics(self, request: Request) -> Response:
        """Return the counters for Prometheus."""
        scheduler = self.scheduler
        text = scheduler.metrics.text(len(scheduler.waiting), len(scheduler.batch.rows))
        return PlainTextResponse(text, media_type=CONTENT_TYPE)


async def read(request: Request, kind: type[Body]) -> Any:
    """Read the JSON of a request. Raises RequestError for a body that is too large, too slow, or no such request."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the request must have the header Content-Type: application/json", status=415)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise RequestError(f"the request has more than {MAX_BODY_BYTES:,} bytes", status=413)
    except TimeoutError as error:
        raise RequestError("the request took too long to arrive", status=408) from error
    except ClientDisconnect as error:
        raise RequestError(GONE, status=499) from error
    return parse(kind, bytes(body))


async def on_request_error(request: Request, error: Exception) -> Response:
    """Answer a request that is refused."""
    assert isinstance(error, RequestError)
    return error_response(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    return error_response(RequestError(f"{where}: {error.detail}", status=error.status_code))


async def on_any_error(request: Request, error: Exception) -> Response:
    """Answer a request that meets a bug. The answer does not tell which."""
    return error_response(RequestError("internal error", status=500))


def make_app(model: ServedModel, scheduler: Scheduler, access: Access) -> App:
    """Return the application."""
    endpoints = Endpoints(model, scheduler)
    table: Sequence[tuple[str, str, Callable[[Request], Any]]] = (
        ("/", "GET", page),
        ("/v1/models", "GET", endpoints.models),
        ("/v1/completions", "POST", endpoints.completions),
        ("/v1/chat/completions", "POST", endpoints.chat),
        ("/tokenize", "POST", endpoints.tokenize),
        ("/detokenize", "POST", endpoints.detokenize),
        ("/health", "GET", endpoints.health),
        ("/metrics", "GET", endpoints.metrics),
    )
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for path, method, endpoint in table],
        exception_handlers={
            RequestError: on_request_error, HTTPException: on_http_error, Exception: on_any_error,
        },
    )  # fmt: skip
    return Guard(app, access, scheduler.metrics, [path for path, _, _ in table])
