"""What ``--help`` shows, and options whose value may be left out."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

FOLLOW_S = "60"
"""What ``--follow`` means without a value."""


class PlainCommand(TyperCommand):
    """A command whose switches have no type beside them: ``--overwrite``, and not ``--overwrite <bool>``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, among them ``--follow`` with or without its number."""
        return super().parse_args(ctx, list(_with_seconds(args)))

    def get_params(self, ctx: Any) -> Any:
        """Return all parameters, ``--help`` as well."""
        return _without_types(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """The same of several commands."""

    def get_params(self, ctx: Any) -> Any:
        """Return all parameters, ``--help`` as well."""
        return _without_types(super().get_params(ctx))


def _with_seconds(args: Sequence[str]) -> Iterator[str]:
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        yield arg
        if arg == "--follow" and not _is_number(following):
            yield FOLLOW_S


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = parameter.metavar or ""
    return parameters
