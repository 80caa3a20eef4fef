"""The command gptctl: runs a subcommand and turns every error into one line, a hint, and an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import TYPE_CHECKING, Annotated

import typer

from gptctl.cli import streams
from gptctl.cli.commands import StageGroup, show_version
from gptctl.cli.console import clear_starting
from gptctl.cli.stages import COMMON_PANEL, stage_names
from gptctl.core.plugins import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

app = typer.Typer(
    cls=StageGroup, rich_markup_mode="rich", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)  # fmt: skip


@app.callback()
def gptctl(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, metavar="", help="Print the version.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = False,
) -> None:  # fmt: skip
    """From raw text to an evaluated GPT: clean, dedup, tokenize, pretrain, finetune, eval, generate.

    Each stage reads and writes Arrow shards on disk, or a pipe: gptctl clean raw.jsonl -o - | gptctl dedup - -o unique
    """


def main() -> None:
    """Run the command line and end the process with its exit code."""
    code: int = 1
    try:
        require_utf8(sys.argv)
        code = app(prog_name="gptctl", standalone_mode=False) or 0
    except BaseException as error:
        code = report(error)
    sys.exit(finish(code))


def finish(code: int) -> int:
    """Flush standard output and return the exit code, which is not 0 if a result could not be written."""
    clear_starting()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 141
    except OSError as error:
        code = code or report(error)
    streams.drop_output()
    return code


def require_utf8(arguments: list[str]) -> None:
    """Refuse names that the records of a run, which are UTF-8, could not hold. Raises UsageError (2)."""
    from gptctl.core.errors import UsageError

    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
            raise UsageError(f"an argument is not UTF-8: {shown}", "rename that file or folder")


def report(error: BaseException) -> int:
    """Print an error as one line and a hint, and return its exit code."""
    from gptctl.cli.console import Console
    from gptctl.core.errors import GptctlError, PipeClosedError, UsageError, from_exception
    from gptctl.core.redact import redact
    from gptctl.core.visible import visible

    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, PipeClosedError | BrokenPipeError):
        return 141
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130
    if "--debug" in sys.argv:
        sys.stderr.write(visible(redact("".join(traceback.format_exception(error))), lines=True))
    if isinstance(error, typer.TyperException):
        instead = instead_of(error, sys.argv)
        error = UsageError(usage_problem(error, suggests=not instead), instead or usage_hint(sys.argv))
    known = from_exception(error) if isinstance(error, Exception) else GptctlError(f"internal error: {error!r}")
    Console().error(known)
    return known.exit_code


def command_named(argv: list[str]) -> list[str]:
    """Return the subcommand of a command line in a list, or nothing if it names none."""
    return [word for word in argv[1:2] if word in stage_names()]


def usage_hint(argv: list[str]) -> str:
    """Return the hint for a command line that cannot be parsed. Options before the command belong behind it."""
    commands = [word for word in argv[1:] if word in stage_names()]
    if commands and not command_named(argv):
        return f"options follow the command: gptctl {commands[0]} {argv[1]}"
    return f"see {' '.join(['gptctl', *command_named(argv)])} --help"


def instead_of(error: typer.TyperException, argv: list[str]) -> str:
    """Return what a command has in place of an option that it lacks, or an empty string.

    Keys that are no flags are among it: "--set encoding=VALUE" for --encoding.
    """
    from gptctl.cli.stages import config_model

    name = getattr(error, "option_name", "").lstrip("-").replace("-", "_")
    for stage in command_named(argv) if name else ():
        model = config_model(stage)
        for key, instead in model.instead.items():
            if key.rsplit(".", 1)[-1] == name:
                return instead
        if found := keys_called(name, model):
            return f"this is a config key: {' or '.join(f'--set {key}=VALUE' for key in found)}"
    return ""


def keys_called(name: str, model: type[BaseModel], table: str = "") -> list[str]:
    """Return the dotted keys of a config model, and of its tables, that have this name."""
    from gptctl.core.config import table_of

    found = []
    for key, info in model.model_fields.items():
        if inner := table_of(info.annotation):
            found += keys_called(name, inner, f"{table}{key}.")
        elif key == name:
            found.append(f"{table}{key}")
    return found


def usage_problem(error: typer.TyperException, suggests: bool) -> str:
    """Say what is wrong with a command line: an unknown option, an option without a value, too many arguments.

    With `suggests`, name the option that is most like an unknown one.
    """
    message, option = error.format_message().rstrip("."), getattr(error, "option_name", "")
    if option and message.endswith("requires an argument"):
        return f"{option} needs a value"
    if option:
        near = {name.lstrip("-"): name for name in getattr(error, "possibilities", None) or ()}
        meant = did_you_mean(option.lstrip("-"), [*near], near.__getitem__) if suggests else ""
        return f"no such option: {option}{meant}"
    if extra := re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", message):
        return f"too many arguments: {extra[1]}"
    return message[:1].lower() + message[1:]


if __name__ == "__main__":
    main()
