"""What a request may contain: OpenAI's parameters that a language model has, and three of other servers.

Everything else is refused by name. The other servers' parameters are top_k, min_p and repetition_penalty.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_BIASES = 1000
MAX_TOP_LOGPROBS = 20

StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
IdText = Annotated[str, Field(max_length=10)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class RequestError(Exception):
    """A request that is refused, as OpenAI's interface says it: HTTP status, message, parameter and code."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, code: str | None = None, **headers: str
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class Body(BaseModel):
    """The JSON object of a request. Numbers must be numbers, and unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class StreamOptions(Body):
    """How an answer is streamed."""

    include_usage: bool = False


class Generation(Body):
    """The parameters that both kinds of completions have. None is the default of the model or of the interface."""

    model: str
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, lt=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[IdText, Bias], Field(max_length=MAX_BIASES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def check_stream_options(self) -> Self:
        """Refuse options of streaming where nothing streams."""
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options need stream=true")
        return self

    def stops(self) -> tuple[str, ...]:
        """Return the texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def includes_usage(self) -> bool:
        """Return whether the last chunk of a stream has the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(Generation):
    """A request to /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1)] | TokenIds | Annotated[list[TokenIds], Field(min_length=1)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None

    def prompts(self) -> list[str | list[int]]:
        """Return the prompts, each as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [one for one in self.prompt if isinstance(one, int)]
        return [ids] if ids else [one for one in self.prompt if isinstance(one, str | list)]


class Part(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1)]
    name: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": content, **({"name": self.name} if self.name else {})}


class ChatRequest(Generation):
    """A request to /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def check_pairs(self) -> Self:
        """Refuse values that contradict each other."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens differ")
        return self


class TokenizeRequest(Body):
    """A request to /tokenize: a text, or the messages of a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    add_special_tokens: bool = True

    @model_validator(mode="after")
    def check_one(self) -> Self:
        """Refuse a request for both or for nothing."""
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class DetokenizeRequest(Body):
    """A request to /detokenize."""

    model: str | None = None
    tokens: list[TokenId]


def parse(kind: type[Body], body: bytes) -> Any:
    """Return a request of the given kind. Raises RequestError, which names the first parameter that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        # A parameter that may have several types has an error for each; the one of the type that was given says most.
        same = [one for one in found if one["loc"][:1] == found[0]["loc"][:1]]
        first = max(same, key=lambda one: (not one["type"].endswith("_type"), len(one["loc"])))
        place = [str(part) for part in first["loc"] if isinstance(part, int) or part in known_names()]
        name = str(first["loc"][0]) if first["loc"] else None
        if first["type"] == "extra_forbidden":
            raise RequestError(f"{first['loc'][-1]}: this parameter is not supported", name) from error
        where = f"{'.'.join(place)}: " if place else ""
        raise RequestError(f"{where}{first['msg'].removeprefix('Value error, ')}", name) from error


def known_names() -> frozenset[str]:
    """Return the names of all parameters; pydantic also puts the names of types into the place of an error."""
    kinds = CompletionRequest, ChatRequest, ChatMessage, Part, StreamOptions, TokenizeRequest, DetokenizeRequest
    return frozenset(name for kind in kinds for name in kind.model_fields)
