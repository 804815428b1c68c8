"""Mistakes in settings that no signature can tell: what does not fit another one, or the image."""

from collections.abc import Mapping

from streamtrack.errors import ConfigError


def require(in_range: bool, name: str, value: object, wanted: str) -> None:
    """Raise ConfigError unless a setting is in its range."""
    if not in_range:
        raise ConfigError(f"{name} is {value}: it must be {wanted}")


def require_one(settings: Mapping[str, object]) -> None:
    """Raise ConfigError unless exactly one of these settings is given."""
    given = [name for name, value in settings.items() if value is not None]
    if len(given) != 1:
        said = " and ".join(given) if given else "none of them"
        raise ConfigError(f"give exactly one of {', '.join(settings)}: here is {said}")
