"""Rendering of chat templates, whose source may come from strangers, in bounded time and memory.

Jinja's sandbox limits what a template reaches, but not what it costs: one expression can ask for all memory, or run for
years in native code. So a template is compiled and rendered in a child process (bounded_call.py). gptctl's own template
needs no child.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, NamedTuple

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gptctl.core.errors import DataError
from gptctl.text.bounded_call import BoundedCall, Failure

# ChatML, the basis of most open models' templates.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
RENDER_SECONDS = 10.0  # for all texts of one conversation
RENDER_BYTES = 2**30  # of memory, beside what this process has
MAX_TEMPLATE = 2**20  # characters
MAX_TEXT = 2**26  # characters of a rendered conversation
MAX_WORDS = 300  # characters of an error that a template raises
REJECTED = "see which roles and contents the template takes"

# Around what a {% generation %} block renders, while a conversation is prepared for training.
SAID, END_OF_SAID = "\ufdd2", "\ufdd3"

Request = Mapping[str, Any]  # what a template is given; "marks" is which of the assistant's turns are learned, or None


class Rendered(NamedTuple):
    """A rendered text, and how many generation blocks it has."""

    text: str
    blocks: int


class TemplateCostsError(DataError):
    """A template takes more time or memory than it may, so no other conversation should be tried."""


@dataclass
class Marking:
    """Which of the assistant's turns are learned, and how many generation blocks a template has rendered."""

    learned: Sequence[bool]
    blocks: int = 0


MARKING: ContextVar[Marking | None] = ContextVar("marking", default=None)


class GenerationBlocks(Extension):
    """The statement {% generation %} ... {% endgeneration %}."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the block as a call of `mark`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Macro) -> str:
        """Return what the block renders, between marks if it is learned."""
        text, marking = str(caller()), MARKING.get()
        if marking is None:
            return text
        number, marking.blocks = marking.blocks, marking.blocks + 1
        learns = number >= len(marking.learned) or marking.learned[number]
        return SAID + text + END_OF_SAID if learns else text


class TemplateRenderer:
    """A parsed template, which a child process compiles and renders."""

    def __init__(self, source: str) -> None:
        """Parse a template. Raises DataError (3) if it cannot be parsed."""
        self.source = source
        self.environment = make_environment()
        self._template: Template | None = None
        self._bounded: BoundedCall | None = None
        self._lock = Lock()
        if len(source) > MAX_TEMPLATE:
            raise unparsable(f"it has {len(source):,} characters, and may have {MAX_TEMPLATE:,}")
        try:
            tree = self.environment.parse(source)
        except (TemplateError, RecursionError, ValueError, OverflowError, MemoryError) as error:
            raise unparsable(words_of(error)) from error
        self.marks_generation = any(tree.find_all(nodes.ExtensionAttribute))
        self.render([])

    def __del__(self) -> None:
        with suppress(AttributeError):  # of a template that could not be parsed
            self.close()

    def close(self) -> None:
        """End the child process. The next rendering starts another one."""
        if self._bounded is not None:
            self._bounded.close()

    def render(self, requests: Sequence[Request]) -> list[Rendered]:
        """Render the template once for each request.

        Raises DataError (3) if the template cannot be compiled, raises an error, or takes more than RENDER_SECONDS,
        RENDER_BYTES of memory or MAX_TEXT.
        """
        if self.source == CHATML:
            found = self.render_here(requests)
        else:
            with self._lock:
                self._bounded = self._bounded or BoundedCall(self.answer, RENDER_SECONDS, RENDER_BYTES)
                answer = self._bounded(json.dumps(requests))
            if isinstance(answer, Failure):
                raise too_costly(answer)
            found = json.loads(answer)
        if isinstance(found, list):
            return [Rendered(*each) for each in found]
        if found["kind"] == "syntax":
            raise unparsable(found["error"])
        error = TemplateCostsError if found["kind"] == "cost" else DataError
        raise error(f"the chat template rejects a conversation: {found['error']}", REJECTED)

    def answer(self, requests: str) -> str:
        """Return the answer to requests, both as JSON. It is called in the child."""
        return json.dumps(self.render_here(json.loads(requests)))

    def render_here(self, requests: Sequence[Request]) -> list[tuple[str, int]] | dict[str, str]:
        """Return the text and the blocks for each request, or the error of the first one that fails."""
        if self._template is None:
            try:
                self._template = self.environment.from_string(self.source)
            except Exception as error:
                return {"kind": "syntax", "error": words_of(error)}
        try:
            return [render_one(self._template, request) for request in requests]
        except MemoryError:
            return {"kind": "cost", "error": f"it needs more than {RENDER_BYTES // 2**30} GiB of memory"}
        except Exception as error:  # a template can raise whatever an expression can
            return {"kind": "error", "error": words_of(error)}


def make_environment() -> ImmutableSandboxedEnvironment:
    """Return the sandbox with what transformers offers templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", GenerationBlocks]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    environment.filters["tojson"] = lambda value, **how: json.dumps(value, **{"ensure_ascii": False, **how})
    return environment


def render_one(template: Template, request: Request) -> tuple[str, int]:
    """Return what a template renders for a request, and the number of its generation blocks."""
    marks = request["marks"]
    marking = None if marks is None else Marking(marks)
    token = MARKING.set(marking)
    try:
        text = template.render({name: value for name, value in request.items() if name != "marks"})
    finally:
        MARKING.reset(token)
    if len(text) > MAX_TEXT:
        raise ValueError(f"it writes {len(text):,} characters, and may write {MAX_TEXT:,}")
    return text, marking.blocks if marking else 0


def raise_exception(message: str) -> None:
    """Raise the error by which a template rejects a conversation."""
    raise TemplateError(message)


def words_of(error: BaseException) -> str:
    """Return the words of an error, with its kind where they alone would not be understood."""
    words = " ".join(str(error).split())[:MAX_WORDS]
    if isinstance(error, TemplateError | TypeError | ValueError | AttributeError) and words:
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def unparsable(words: str) -> DataError:
    """Return the error for a template that cannot be parsed."""
    return DataError(f"the chat template cannot be parsed: {words}", "see jinja.palletsprojects.com")


def too_costly(failure: Failure) -> TemplateCostsError:
    """Return the error for a template whose child process had to be ended, or ended by itself."""
    hint = "use another one: --set chat_template=FILE"
    if failure.kind == "timeout":
        return TemplateCostsError(f"the chat template takes longer than {RENDER_SECONDS:g} s", hint)
    return TemplateCostsError(f"the process that renders the chat template ended with {failure.detail}", hint)
