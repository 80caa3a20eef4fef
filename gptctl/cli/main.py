"""The gptctl command: one subcommand per file in gptctl/stages/, imported only when it is run.

`gptctl --help` reads the first line of each stage's file and imports none of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._click.exceptions import ClickException
from typer._click.exceptions import UsageError as ClickUsageError
from typer.core import TyperGroup

from gptctl import __version__
from gptctl.core import plugins

if TYPE_CHECKING:
    from gptctl.core.config import StageConfig

STAGES = "gptctl.stages"
PIPELINE = ("clean", "dedup", "tokenize", "pretrain", "finetune", "eval", "generate")


def stage_names() -> list[str]:
    """List the subcommands: the pipeline in its order, then the rest."""
    found = plugins.names(STAGES)
    return [name for name in PIPELINE if name in found] + [name for name in found if name not in PIPELINE]


def headline(stage: str) -> str:
    """Read a stage's one-line help, the first line of its file, without importing it."""
    spec = find_spec(STAGES)
    assert spec is not None and spec.submodule_search_locations
    with (Path(next(iter(spec.submodule_search_locations))) / f"{stage}.py").open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')


class StageGroup(TyperGroup):
    """Subcommands that are found by file name and imported when they are run."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the subcommands in the pipeline's order."""
        return stage_names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in that knows its one-line help, which is all that `gptctl --help` needs."""
        if cmd_name not in stage_names():
            return None
        app = typer.Typer(add_completion=False)
        app.command(name=cmd_name, help=headline(cmd_name))(lambda: None)
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command for one that is about to run."""
        if args and args[0] in stage_names():
            return args[0], stage_command(args[0]), args[1:]
        if args and not args[0].startswith("-"):
            raise plugins.unknown("command", args[0], stage_names())
        return super().resolve_command(ctx, args)


def stage_command(stage: str) -> Any:
    """Import a stage and build its command from its config."""
    from gptctl.cli.params import signature
    from gptctl.core.config import extra

    module = plugins.load(STAGES, stage)
    model = config_model(module, stage)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    epilog = "Examples:\n\n" + "\n\n".join(module.EXAMPLES)
    arguments = [str(notes["argument"]) for notes in map(extra, model.model_fields.values()) if notes.get("argument")]
    bare = all(name.startswith("[") for name in arguments)  # doctor alone does something without any
    app.command(name=stage, help=paragraphs(model.__doc__ or ""), epilog=epilog, no_args_is_help=not bare)(
        signature(model, lambda values: execute(stage, values))
    )
    return typer.main.get_command(app)


def paragraphs(text: str) -> str:
    """Join the lines of each paragraph, so that the help wraps to the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def config_model(module: ModuleType, stage: str) -> type[StageConfig]:
    """Return a stage's config model: the class named like the stage."""
    model: type[StageConfig] = getattr(module, stage.capitalize())
    return model


app = typer.Typer(cls=StageGroup, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        sys.stdout.write(f"gptctl {__version__}\n")
        raise typer.Exit


@app.callback()
def gptctl(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From raw text to an evaluated GPT: clean, dedup, tokenize, pretrain, finetune, eval, generate.

    Each stage reads and writes Arrow shards on disk, or a pipe: gptctl clean raw.jsonl -o - | gptctl dedup - -o unique
    """


def execute(stage: str, values: dict[str, Any]) -> None:
    """Run a stage; a closed pipe is told here, because Typer would make exit code 1 of it."""
    from gptctl.core.errors import PipeClosedError

    try:
        run_stage(stage, values)
    except BrokenPipeError as error:
        raise PipeClosedError("the reader of the pipe is gone") from error


def run_stage(stage: str, values: dict[str, Any]) -> None:
    """Resolve the config of a stage, run it, and print its result."""
    from gptctl.cli.console import Console, print_json
    from gptctl.cli.params import common_options
    from gptctl.core.config import flatten, plain, show
    from gptctl.core.context import Context
    from gptctl.core.redact import redacted
    from gptctl.core.signals import StopFlag
    from gptctl.io.dataset.schema import prepare_arrow

    common = {name: values.pop(name) for name in common_options()}
    console = Console(common["quiet"], common["verbose"])
    module = plugins.load(STAGES, stage)
    config, origins = resolve(
        stage, config_model(module, stage), values, common["config_file"], common["set_values"] or []
    )
    if common["print_config"]:
        sys.stdout.write(show(config, origins))
        return
    if common["verbose"]:
        values = flatten(redacted(plain(config)))
        for name, origin in origins.items():
            console.info(f"{name} = {json.dumps(values.get(name))}  # {origin}")
    prepare_arrow()
    started = time.monotonic()
    with StopFlag() as stop:
        context = Context(
            force=common["force"], argv=tuple(sys.argv[1:]), stop=stop,
            progress=console.progress, warn=console.warn, info=console.info, show_metrics=console.show_metrics,
            write=(lambda text: None) if common["json_output"] else console.write,
        )  # fmt: skip
        try:
            summary = module.plan(config, context) if common["dry_run"] else module.run(config, context)
        finally:
            console.stop_bar()
    summary = replace(summary, seconds=time.monotonic() - started)
    console.show(summary)
    if common["json_output"]:
        print_json(summary.to_json())
    if summary.failure:
        raise summary.failure


def resolve(
    stage: str, model: type[StageConfig], flags: dict[str, Any], file: Path | None, sets: list[str]
) -> tuple[StageConfig, dict[str, str]]:
    """Merge default < preset < --config file < environment < --set < flag."""
    from gptctl.core.config import build, merge, parse_set, read_environment, read_toml

    def known_elsewhere(name: str) -> bool:
        return any(name in config_model(plugins.load(STAGES, other), other).model_fields for other in stage_names())

    set_values: dict[str, Any] = {}
    for text in sets:
        set_values = merge(set_values, parse_set(text))
    layers = [
        (str(file), read_toml(file, stage, stage_names()) if file else {}),
        ("environment", read_environment(model, os.environ, known_elsewhere)),
        ("--set", set_values),
        ("flag", flag_values(model, flags)),
    ]
    chosen: dict[str, Any] = {}
    for _, layer in layers:
        chosen = merge(chosen, layer)
    return build(model, [("preset", model.preset_layer(chosen)), *layers])


def flag_values(model: type[StageConfig], flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that were typed as config values; some set a key of a table."""
    from gptctl.core.config import extra, merge, nest

    values: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            values = merge(values, nest(extra(model.model_fields[name]).get("path") or name, value))
    return values


def main() -> None:
    """Run the command line and end the process with its exit code."""
    code = 1
    try:
        require_utf8(sys.argv)
        app(standalone_mode=False)
        code = 0
    except BaseException as error:
        code = report(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 141
    if code == 141:  # whoever read us is gone: Python must not complain about it while it shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def require_utf8(arguments: list[str]) -> None:
    """Refuse names that the records of a run, which are UTF-8, could not hold. Raises UsageError (2)."""
    from gptctl.core.errors import UsageError

    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
            raise UsageError(f"an argument is not UTF-8: {shown}", "rename that file or folder")


def report(error: BaseException) -> int:
    """Print an error as one line and a hint, and give its exit code."""
    from gptctl.cli.console import Console
    from gptctl.core.errors import GptctlError, MachineError, PipeClosedError, UsageError, from_os_error
    from gptctl.core.redact import redact

    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, PipeClosedError | BrokenPipeError):
        return 141
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130
    if "--debug" in sys.argv:
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    if isinstance(error, ClickException):
        where = error.ctx.command_path if isinstance(error, ClickUsageError) and error.ctx else "gptctl"
        error = UsageError(error.format_message(), f"see {where} --help")
    elif isinstance(error, MemoryError):
        error = MachineError("out of memory", "use fewer workers (--workers 1) or smaller batches")
    elif isinstance(error, OSError):
        error = from_os_error(error)
    elif not isinstance(error, GptctlError):
        error = GptctlError(
            f"internal error: {type(error).__name__}: {error}",
            "run again with --debug and report the traceback; log.txt in the output folder has it too",
        )
    Console().error(error)
    return error.exit_code


if __name__ == "__main__":
    main()
