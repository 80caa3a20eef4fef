"""Serve a model over HTTP, with OpenAI's interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gptctl.core.config import Values, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import memory_hint
from gptctl.core.extras import require
from gptctl.core.summary import Summary
from gptctl.infer.options import SamplingOptions, WeightOptions
from gptctl.io.hub.uri import HubUri, is_hub
from gptctl.model.files.locate import find_model

if TYPE_CHECKING:
    from gptctl.serve.jobs import ServedModel
    from gptctl.serve.scheduler import Scheduler
    from gptctl.serve.server import Options

EXAMPLES = (
    "gptctl serve run",
    "gptctl serve run --port 8001 --quantize int8 --max-batch 16",
    "gptctl serve run --host 0.0.0.0 --api-key-file keys.txt",
)


class Serve(WeightOptions):
    """Answer requests to a model over HTTP, as OpenAI's interface has them, until a signal arrives.

    Requests are generated together, and each answer is the same as alone. The server listens on this machine only,
    unless --host says otherwise.
    """

    model: str = argument(..., "MODEL", "A run, a checkpoint, a model folder, or hf://OWNER/MODEL.")
    host: str = flag("127.0.0.1", "Address to listen on; 0.0.0.0 is every address.", panel="Server", runtime=True)
    port: int = flag(8000, "Port to listen on; 0 takes a free one.", panel="Server", ge=0, le=65535, runtime=True)
    api_key_file: str | None = flag(
        None, "File with a key on each line, one of which requests must have.", metavar="FILE", panel="Server",
        runtime=True,
    )  # fmt: skip
    max_batch: int = flag(8, "Samples that are generated at once.", metavar="N", panel="Server", ge=1, runtime=True)
    max_queue: int = key(64, "Prompts that may wait; a request is refused if there is no room.", ge=1, runtime=True)
    max_connections: int = key(
        512, "Connections that may be open; idle ones are closed for new ones.", ge=1, le=65535, runtime=True
    )
    drain_seconds: float = key(30.0, "Time for running requests to finish after a signal.", ge=0, runtime=True)
    allowed_hosts: tuple[str, ...] = key(
        (), "Names of the server that the header Host may have, besides addresses and localhost.", runtime=True
    )


def plan(config: Serve, context: Context) -> Summary:
    """Load the model, check that the address is free, and return what would be served."""
    options = prepare(config)
    options.address.listen().close()
    model, _ = load(config, context)
    facts: Values = {
        "model": model.name,
        "weights": config.dtype(),
        "context": model.context,
        "chat": model.chat_template is not None,
        "url": options.address.url(config.port),
        "keys": len(options.access.keys),
    }
    return Summary("serve", "planned", plan=facts)


@memory_hint("use --quantize int8, --set precision=bf16, or a smaller --max-batch")
def run(config: Serve, context: Context | None = None) -> Summary:
    """Serve a model until a signal arrives."""
    context = context or Context()
    options = prepare(config)
    from gptctl.serve.server import serve

    with options.address.listen() as listening:
        metrics = serve(*load(config, context), options, listening, context)
    return Summary("serve", metrics=metrics)


def prepare(config: Serve) -> Options:
    """Read the keys, and return how to serve. Raises MachineError (4) if a package is missing."""
    config.check_loading()
    require("starlette")
    require("uvicorn")
    from gptctl.serve.guard import Access
    from gptctl.serve.server import Address, Options, read_keys

    access = Access(read_keys(config.api_key_file), (config.host, *config.allowed_hosts))
    return Options(Address(config.host, config.port), access, config.drain_seconds, config.max_connections)


def load(config: Serve, context: Context) -> tuple[ServedModel, Scheduler]:
    """Load the model on its device, and prepare this process for it."""
    from gptctl.infer.decoder import Decoder
    from gptctl.model import device
    from gptctl.serve.jobs import ServedModel
    from gptctl.serve.scheduler import Scheduler

    generator = config.load_generator(str(find_model(config.model, context.info)))
    device.configure_process(device.cpu_threads())
    defaults = SamplingOptions().with_model_defaults(generator.generation_config, context).sampling_params()
    model, decoder = ServedModel(generator, name_of(config.model), defaults), generator.engine.model
    assert isinstance(decoder, Decoder)
    return model, Scheduler(decoder, model.tokenizer, model.stop_ids, config.max_batch, config.max_queue)


def name_of(model: str) -> str:
    """Return the name of a model in requests: OWNER/MODEL on the hub, or the name of its folder."""
    return HubUri.parse(model).repo if is_hub(model) else Path(model).resolve().name
