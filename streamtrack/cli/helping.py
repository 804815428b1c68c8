"""What ``--help`` shows."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class PlainCommand(TyperCommand):
    """A command whose switches have no type beside them: ``--overwrite``, and not ``--overwrite <bool>``."""

    def get_params(self, ctx: Any) -> Any:
        """Return all parameters, ``--help`` as well."""
        return _without_types(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """The same of several commands."""

    def get_params(self, ctx: Any) -> Any:
        """Return all parameters, ``--help`` as well."""
        return _without_types(super().get_params(ctx))


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = parameter.metavar or ""
    return parameters
