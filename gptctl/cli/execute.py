"""Run one command: resolve its config, call its stage, and print the result."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

from gptctl.cli import early, streams
from gptctl.cli.console import Console, print_json
from gptctl.cli.params import common_options
from gptctl.cli.resolve import flag_values, resolve
from gptctl.cli.stages import STAGES, config_model, plan
from gptctl.core import plugins
from gptctl.core.config import Layer, StageConfig, flatten, plain, show
from gptctl.core.context import Context
from gptctl.core.errors import PipeClosedError, UsageError, from_exception, from_os_error
from gptctl.core.redact import redacted
from gptctl.core.signals import StopFlag
from gptctl.core.summary import Summary
from gptctl.core.visible import visible
from gptctl.text.kernels import cache


def execute(stage: str, values: dict[str, Any]) -> None:
    """Run a command. A closed pipe and EOFError are reported here: Typer would turn them into exit codes 1 and 130."""
    try:
        run_stage(stage, values)
    except BrokenPipeError as error:
        raise PipeClosedError("the reader of the pipe is gone") from error
    except EOFError as error:
        raise from_exception(error) from error


def run_stage(stage: str, values: dict[str, Any]) -> None:
    """Resolve the config of a stage, run it, and print its result."""
    common = {name: values.pop(name) for name in common_options()}
    console = Console(common["quiet"], common["verbose"])
    config, origins = resolve(
        stage,
        Layer("flag", flag_values(config_model(stage), values)),
        common["config_file"],
        common["set_values"] or (),
        common["plugin_files"] or (),
        placeholders=common["print_config"],
    )
    if common["json_output"]:
        streams.require_output()
        check_one_output(config, common["dry_run"])
    if common["print_config"]:
        sys.stdout.write(visible(show(config, origins), lines=True))
        return
    if common["verbose"]:
        chosen = flatten(redacted(plain(config)))
        for name, origin in origins.items():
            console.info(f"{name} = {json.dumps(chosen.get(name))}  # {origin}")
    from gptctl.io.dataset.schema import prepare_arrow
    from gptctl.io.hub.pin import pin_config

    prepare_arrow()
    if early.compiles:
        console.info(f"compiling (once): the compiled code is kept in {cache.current_folder()}")
    module = plugins.load(STAGES, stage)
    started = time.monotonic()
    with StopFlag(console.info, console.last_words) as stop:
        context = Context(
            force=common["force"], argv=tuple(sys.argv[1:]), stop=stop,
            progress=console.progress, warn=console.warn, info=console.info, show_metrics=console.show_metrics,
            write=(lambda text: None) if common["json_output"] else console.write,
        )  # fmt: skip
        try:
            config = pin_config(config, context)
            summary = plan(stage, config, context) if common["dry_run"] else module.run(config, context)
        finally:
            console.stop_bar()
    summary = replace(summary, seconds=time.monotonic() - started)
    written = is_written(summary, config)
    console.show(summary, are_result=not common["json_output"] and only_shows(summary, config))
    summary = replace(summary, warnings=tuple(console.warnings))
    if common["json_output"]:
        write_json(summary, written)
    if summary.failure:
        raise summary.failure
    if not (common["json_output"] or common["quiet"] or written or console.has_written):
        streams.require_messages()  # they are the result


def check_one_output(config: StageConfig, dry_run: bool) -> None:
    """Raise UsageError (2) if rows are to go to standard output, where --json prints the result."""
    rows = "-o -" if getattr(config, "out", None) == "-" and not dry_run else ""
    rows = "--format jsonl" if getattr(config, "format", None) == "jsonl" else rows
    if rows:
        raise UsageError(f"--json and {rows} both write to standard output", "leave out one of them")


def only_shows(summary: Summary, config: StageConfig) -> bool:
    """Return whether what a command shows is all that it was asked for: a plan, or a result that it writes nowhere.

    A plan for a pipe is not, since the next command reads standard output.
    """
    if summary.plan is not None:
        return getattr(config, "out", None) != "-"
    return not ("out" in type(config).model_fields and summary.outputs)


def is_written(summary: Summary, config: StageConfig) -> bool:
    """Return whether the result is an output that is complete, on disk or in a pipe."""
    writes = "out" in type(config).model_fields and bool(summary.outputs)
    return writes and summary.final_status in ("done", "up to date")


def write_json(summary: Summary, written: bool) -> None:
    """Print the result as JSON. Raises MachineError (4) that says what is complete if it cannot be written."""
    try:
        print_json(summary.to_json())
    except BrokenPipeError:
        raise
    except OSError as error:
        known = from_os_error(error)
        if written:
            known.hint = f"{', '.join(summary.outputs)} is complete: the same command shows the result again"
        raise known from error
