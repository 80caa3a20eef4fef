"""The work of a server: a bounded queue of prompts, and the batch of samples that are being generated.

One thread calls `run`; requests are submitted and cancelled from others. Prompts start in the order in which they came,
as soon as there are places for all their samples.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gptctl.core.errors import GptctlError, MachineError, from_exception
from gptctl.infer.continuous import PIECE_TOKENS, ContinuousBatch, PromptReader
from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import FinishReason
from gptctl.infer.row_sampling import LiveRow, RowParams, Scored
from gptctl.infer.rows import Row
from gptctl.infer.sampling import RandomNumbers
from gptctl.infer.text_stream import TextStream
from gptctl.serve.metrics import Metrics
from gptctl.text.tokenizer import Tokenizer

IDLE_SECONDS = 0.1  # how often an idle server looks whether it is to end


class PromptRead(NamedTuple):
    """A prompt was read. `scores` are those of its tokens but the first one, if they were asked for."""

    scores: list[Scored]


class Piece(NamedTuple):
    """New text of a sample, the tokens that it took, and why the sample ends, if it does."""

    sample: int
    text: str
    tokens: list[Scored]
    finish_reason: FinishReason | None


class Failed(NamedTuple):
    """The prompt could not be answered."""

    error: GptctlError


Event = PromptRead | Piece | Failed


@dataclass(eq=False)
class Job:
    """One prompt, and how its samples are generated.

    Sample j is sample number first_sample + j of the seed, as in TextGenerator. `on_event` is called by the thread that
    generates. Setting `cancelled` frees the places of the samples within one step.
    """

    prompt: Sequence[int]
    params: RowParams
    on_event: Callable[[Event], None]
    samples: int = 1
    first_sample: int = 0
    scores_prompt: bool = False
    cancelled: bool = False
    submitted: float = field(default_factory=time.monotonic)


class Sample(LiveRow):
    """A sample that is being generated."""

    def __init__(self, job: Job, number: int, tokenizer: Tokenizer) -> None:
        params = job.params.sampling
        random = RandomNumbers(params.seed, job.first_sample + number)
        super().__init__(Row(number, list(job.prompt), params.max_tokens, random), job.params)
        self.job = job
        self.stream = TextStream(tokenizer, params.stop, job.prompt)
        self.unsent: list[Scored] = []

    def take(self, scored: Scored, stop_ids: Sequence[int]) -> bool:
        """Take the next token, tell what is certain now, and return whether the sample goes on."""
        self.row.append(scored.token, scored.logprob)
        reason: FinishReason | None = None
        if scored.token in stop_ids:
            reason, text = "stop", self.stream.finish()
        else:
            self.unsent.append(scored)
            text = self.stream.add(scored.token)
            if self.stream.stopped:
                reason = "stop"
            elif self.row.room == 0:
                reason, text = "length", text + self.stream.finish()
                reason = "stop" if self.stream.stopped else reason
        if text or reason:
            self.job.on_event(Piece(self.row.number, text, self.unsent, reason))
            self.unsent = []
        return reason is None


class Scheduler:
    """Generates for submitted prompts, up to `max_batch` samples at once, while up to `max_queue` prompts wait."""

    def __init__(
        self, model: Decoder, tokenizer: Tokenizer, stop_ids: Sequence[int], max_batch: int, max_queue: int
    ) -> None:
        self.batch = ContinuousBatch(model)
        self.tokenizer, self.stop_ids = tokenizer, stop_ids
        self.max_batch, self.max_queue = max_batch, max_queue
        self.metrics = Metrics()
        self.closed = False
        self.waiting: deque[Job] = deque()
        self.reading: tuple[Job, PromptReader] | None = None
        self.changed = threading.Condition()

    def submit(self, jobs: Sequence[Job]) -> bool:
        """Queue the prompts of a request. Return False if there is no room for all of them, or no more are taken."""
        with self.changed:
            if self.closed or len(self.waiting) + len(jobs) > self.max_queue:
                return False
            self.waiting += jobs
            self.changed.notify()
        return True

    def close(self) -> None:
        """Take no more prompts. Those that wait or run go on."""
        with self.changed:
            self.closed = True

    def run(self, should_end: Callable[[], bool]) -> None:
        """Generate until `should_end` returns True. It is called before each step, and often while nothing waits."""
        while not should_end():
            if not self.step():
                with self.changed:
                    if not self.waiting:
                        self.changed.wait(IDLE_SECONDS)
        self.fail_all(MachineError("the server is shutting down", "send the request again"))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is generated and nothing waits."""
        return not self.waiting and self.reading is None and not self.batch.rows

    def step(self) -> bool:
        """Read a piece of a prompt, and generate a token of each running sample. Return False if there was nothing."""
        try:
            self.remove_cancelled()
            worked = self.read_prompts()
            if self.batch.rows:
                self.metrics.steps += 1
                worked = True
                self.take(self.samples(), self.batch.step())
        except Exception as error:
            self.fail_all(from_exception(error))
            worked = True
        return worked

    def samples(self) -> list[Sample]:
        """Return the running samples."""
        return [live for live in self.batch.rows if isinstance(live, Sample)]

    def remove_cancelled(self) -> None:
        """Free the places of prompts whose client went away."""
        with self.changed:
            gone = [job for job in self.waiting if job.cancelled]
            for job in gone:
                self.waiting.remove(job)
        if self.reading and self.reading[0].cancelled:
            gone.append(self.reading[0])
            self.reading = None
        leaving = [sample for sample in self.samples() if sample.job.cancelled]
        self.batch.leave(leaving)
        self.metrics.cancelled += len({*gone, *(sample.job for sample in leaving)})

    def read_prompts(self) -> bool:
        """Read up to a piece of a long prompt, or several short prompts. Return whether there was one."""
        read = 0
        while read < PIECE_TOKENS and (self.reading or self.begin_reading()):
            assert self.reading is not None
            job, reader = self.reading
            read += (count := reader.read_piece())
            self.metrics.prompt_tokens += count
            if reader.logits is not None:
                self.start_samples(job, reader)
                self.reading = None
        return read > 0

    def begin_reading(self) -> bool:
        """Take the first prompt that waits, if there are places for its samples."""
        with self.changed:
            if not self.waiting or len(self.batch.rows) + self.waiting[0].samples > self.max_batch:
                return False
            job = self.waiting[0]
        scored = job.params.top_logprobs if job.scores_prompt else None
        self.reading = job, PromptReader(self.batch.model, job.prompt, scored)
        self.waiting.popleft()  # only now: if there is no memory for its keys, it must be among those that fail
        return True

    def start_samples(self, job: Job, reader: PromptReader) -> None:
        """Let the samples of a prompt join the batch, with their first token."""
        job.on_event(PromptRead(reader.scores))
        if job.params.sampling.max_tokens == 0:
            for number in range(job.samples):
                job.on_event(Piece(number, "", [], "length"))
            return
        samples = [Sample(job, number, self.tokenizer) for number in range(job.samples)]
        tokens = self.batch.join(reader, samples)
        self.metrics.first_tokens += 1
        self.metrics.first_token_seconds += time.monotonic() - job.submitted
        self.take(samples, tokens)

    def take(self, samples: Sequence[Sample], tokens: Sequence[Scored]) -> None:
        """Append the next tokens to samples. Those that end leave, and so do all samples of a prompt that fails."""
        self.metrics.generated_tokens += len(tokens)
        ended: set[LiveRow] = set()
        failed: set[Job] = set()
        for sample, scored in zip(samples, tokens, strict=True):
            try:
                goes_on = sample.job not in failed and sample.take(scored, self.stop_ids)
            except GptctlError as error:
                goes_on = False
                failed.add(sample.job)
                sample.job.on_event(Failed(error))
            if not goes_on:
                ended.add(sample)
        ended.update(sample for sample in self.samples() if sample.job in failed)
        self.batch.leave(ended)

    def fail_all(self, error: GptctlError) -> None:
        """End everything that runs or waits with an error."""
        with self.changed:
            jobs = dict.fromkeys(self.waiting)
            self.waiting.clear()
        if self.reading:
            jobs[self.reading[0]] = None
        jobs |= dict.fromkeys(sample.job for sample in self.samples())
        self.reading, self.batch = None, ContinuousBatch(self.batch.model)
        for job in jobs:
            job.on_event(Failed(error))
