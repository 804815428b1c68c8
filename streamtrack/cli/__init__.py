"""The command line: ``streamtrack track | demo | evaluate | ...`` and the commands that plug-ins bring."""

import io
import logging
import sys
from collections.abc import Callable
from importlib import import_module

import typer

from streamtrack import __version__
from streamtrack.cli.helping import PlainCommand, PlainGroup
from streamtrack.cli.saying import say_error
from streamtrack.errors import ConfigError, StreamtrackError, one_line

COMMANDS = (
    "track",
    "batch",
    "live",
    "view",
    "ctl",
    "check",
    "calibrate",
    "stop",
    "demo",
    "evaluate",
    "convert",
    "recover",
    "relink",
    "bench",
    "doctor",
    "plugins",
)
"""Modules here, each with a function of its name, or with an app of several."""
PLUGIN_HELP = {
    "train": "Train a network: on your own marked images, on simulations like a movie, or by a recipe.",
    "export": "Turn a training checkpoint into one ONNX file with everything inside.",
    "pack": "Make an engine of anyone's network: image in, heat map or table out.",
}
"""Help lines of the shipped plug-in commands, so that listing them imports nothing."""


def main() -> None:
    """Run the command line; what a user can do something about becomes one line on stderr and exit code 2."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of a damaged file, our one line says too
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # into a pipe Windows writes cp1252, which does not know every name
            stream.reconfigure(errors="backslashreplace")
    try:
        _refuse_quotes(sys.argv[1:])
        app = make_app(sys.argv[1] if len(sys.argv) > 1 else None)
        app(windows_expand_args=False)  # or cell[1].tif is cell1.tif there, to click
    except StreamtrackError as error:
        say_error(str(error))
        sys.exit(2)
    except (MemoryError, RecursionError, UnicodeError, OSError) as error:  # the computer's limits, not a bug
        say_error(one_line(error))
        sys.exit(2)


def _refuse_quotes(arguments: list[str]) -> None:
    r"""Raise ConfigError where Windows took the end of ``"C:\my data\"`` for a quotation mark, as no path has one."""
    quoted = [each for each in arguments if '"' in each]
    if quoted and sys.platform == "win32":
        raise ConfigError(f"{quoted[0]} has a quotation mark in it: leave out the \\ before the closing one")


def make_app(asked: str | None = None) -> typer.Typer:
    """Return the command line with every installed command, or with the one that was asked for alone.

    The emergency stop does not wait until all others are loaded, nor does the version.
    """
    app = typer.Typer(
        cls=PlainGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Real-time streaming particle tracking for live microscopy.",
    )
    app.callback()(_root)
    shown = () if asked == "--version" else (asked,) if asked in COMMANDS else COMMANDS
    for name in shown:
        command = getattr(import_module(f"streamtrack.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(cls=PlainCommand)(command)
    if shown is COMMANDS:
        _add_plugins(app)
    return app


def _add_plugins(app: typer.Typer) -> None:
    from streamtrack.registry import names

    for name in names("commands"):
        everything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
        app.command(name, help=PLUGIN_HELP.get(name), context_settings=everything)(_forward(name))


def _print_version(asked: bool) -> None:
    if asked:
        print(f"streamtrack {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Do nothing: the option acts by itself."""


def _forward(name: str) -> Callable[[typer.Context], None]:
    """Return a command that imports the plug-in's command only when it is called."""

    def run(context: typer.Context) -> None:
        from streamtrack.registry import load

        inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        inner.command(cls=PlainCommand)(load("commands", name))
        inner(args=context.args, prog_name=f"streamtrack {name}")

    return run
