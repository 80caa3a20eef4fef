"""The subcommands of gptctl: one per file in gptctl/stages/, imported only when it is run.

`gptctl --help` reads the first line of each file and imports none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from gptctl import __version__
from gptctl.cli.stages import COMMON_PANEL, STAGES, config_model, headline, stage_names
from gptctl.core import plugins
from gptctl.core.errors import PipeClosedError


def show_help(ctx: typer.Context) -> None:
    """Print help on standard error and end with 2, for a command line that names nothing to do."""
    with redirect_stdout(sys.stderr):
        ctx.get_help()
    raise typer.Exit(2)


@contextmanager
def closed_pipe() -> Iterator[None]:
    """Turn what Rich does when nobody reads its output, which is to end the process, into PipeClosedError (141)."""
    try:
        yield
    except (BrokenPipeError, SystemExit) as error:
        raise PipeClosedError("the reader of the pipe is gone") from error


def simplified(params: list[Any]) -> list[Any]:
    """Show parameters in help without their Python types, and those that Typer adds among the common options."""
    for param in params:
        if getattr(param, "is_bool_flag", False):
            param.metavar = ""
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: None
        elif param.rich_help_panel is None:
            param.rich_help_panel = COMMON_PANEL
    return params


class StageCommand(TyperCommand):
    """A subcommand. Without any arguments it prints its help."""

    needs_arguments = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print help where nothing was typed."""
        if not args and self.needs_arguments and not ctx.resilient_parsing:
            show_help(ctx)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters as help shows them."""
        return simplified(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help. Raises PipeClosedError (141) where nobody reads it."""
        with closed_pipe():
            super().format_help(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line shows behind the command: the arguments as they are declared."""
        arguments = [param.metavar for param in self.params if param.param_type_name == "argument"]
        return [*map(str, arguments), "[OPTIONS]"]


class CommandWithoutArguments(StageCommand):
    """A subcommand that does something without any arguments."""

    needs_arguments = False


class StageGroup(TyperGroup):
    """The command gptctl: it finds its subcommands by file name and imports them when they are run."""

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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print help where nothing was typed."""
        if not args and not ctx.resilient_parsing:
            show_help(ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command for one that is about to run. `help` and `version` are words for the options."""
        name, *rest = args
        if name == "version":
            show_version(True)
        if name == "help":
            if not rest:
                typer.echo(ctx.get_help())
                raise typer.Exit
            name, rest = rest[0], ["--help"]
        if name in stage_names():
            return name, stage_command(name), rest
        if not name.startswith("-"):
            raise plugins.unknown("command", name, stage_names())
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters as help shows them."""
        return simplified(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help. Raises PipeClosedError (141) where nobody reads it."""
        with closed_pipe():
            super().format_help(ctx, formatter)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        sys.stdout.write(f"gptctl {__version__}\n")
        raise typer.Exit


def stage_command(stage: str) -> Any:
    """Import a subcommand and build its command line from its config model."""
    from gptctl.cli.execute import execute
    from gptctl.cli.params import signature
    from gptctl.core.config import declaration

    model = config_model(stage)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    epilog = "Examples:\n\n" + "\n\n".join(plugins.load(STAGES, stage).EXAMPLES)
    arguments = [declaration(field) for field in model.model_fields.values() if declaration(field).form == "argument"]
    kind = CommandWithoutArguments if all(one.metavar.startswith("[") for one in arguments) else StageCommand
    run: Callable[[dict[str, Any]], None] = lambda values: execute(stage, values)  # noqa: E731
    app.command(name=stage, cls=kind, help=paragraphs(model.__doc__ or ""), epilog=epilog)(signature(model, run))
    return typer.main.get_command(app)


def paragraphs(text: str) -> str:
    """Join the lines of each paragraph, so that the help wraps to the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))
