"""The kinds of command that `prefect-core` is made of: they load late, take `--debug` anywhere, and end in one line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

COMPLETED, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; a termination signal gives 143."""
_DEBUG = "--debug"


def _debug_option(*, hidden: bool) -> click.Option:
    return click.Option(
        [_DEBUG], is_flag=True, expose_value=False, hidden=hidden, help="Show the traceback of an error."
    )


class Command(click.Command):
    """A command. The function behind it returns its exit code, or None for 0."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option(hidden=True))


class Group(click.Group):
    """The commands of one noun. Those of `late`, name by `module:attribute` in this package, load when they are used or listed."""

    command_class = Command

    def __init__(self, *args: Any, late: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late = late or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._late])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._late.get(cmd_name)
        return _loaded(place) if place is not None else super().get_command(ctx, cmd_name)


def _loaded(place: str) -> click.Command:
    module, _, attribute = place.partition(":")
    command: click.Command = getattr(import_module(f"prefect_core.cli.{module}"), attribute)
    return command


class Root(click.Group):
    """The commands of the program, each loaded when it is used: of the others only a line of help is known."""

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        """`places` has for each command its `module:attribute` in this package, and its line of help."""
        super().__init__(*args, **kwargs)
        self._places = places
        self.params.append(_debug_option(hidden=False))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with, whose name may have two words."""
        words = [argument for argument in args if argument != _DEBUG]
        name = " ".join(words[:2])
        if " " in name and name in self._places:
            return name, self.get_command(ctx, name), [*[_DEBUG] * args.count(_DEBUG), *words[2:]]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return None
        return _loaded(self._places[cmd_name][0])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._places.items()])

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *further: Any, **extra: Any
    ) -> NoReturn:
        """Run the program with these arguments, and leave Python with its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        run = super().main
        sys.exit(_exit_code(lambda: run(arguments, prog_name, *further, **extra), debug=_DEBUG in arguments))


def _exit_code(run: Callable[[], Any], *, debug: bool) -> int:
    try:
        code = run()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
        _show_traceback(debug)
    except Exception as error:
        click.echo(f"Error: {_in_words(error)}", err=True)
        code = FAILED
        _show_traceback(debug)
    return code if isinstance(code, int) else COMPLETED


def _in_words(error: Exception) -> str:
    from prefect_core.errors import PrefectException

    text = " ".join(str(error).split())
    if isinstance(error, PrefectException):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _show_traceback(debug: bool) -> None:
    if debug:
        click.echo(traceback.format_exc(), err=True, nl=False)
