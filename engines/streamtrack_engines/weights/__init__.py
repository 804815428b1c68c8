"""Trained weights, ONNX files (see `streamtrack_engines.export`) with a model card of the same name.

``NAME.half.onnx`` holds the weights of ``NAME.onnx`` in half precision, for GPUs.
"""

from importlib.resources import files
from pathlib import Path

from streamtrack.errors import EngineError

_IN_ONE_LINE = "In one line: "
"""How the line of a card begins that a list shows."""


def packaged_weights() -> list[str]:
    """Return the names of the weights that come with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".onnx") for entry in files(__name__).iterdir() if entry.name.endswith(".onnx")
    )


def half_precision_of(weights: str) -> str | None:
    """Return the name of the packaged file that has some packaged weights in half precision; None if there is none."""
    name = f"{weights}.half"
    return name if name in packaged_weights() else None


def about_weights(weights: str) -> list[str]:
    """Return what is to be said of packaged weights in a list: their size, and how good they are, by their card."""
    if weights not in packaged_weights():
        return []
    half = ", half precision for GPUs beside it" if half_precision_of(weights) else ""
    size = len(read_weights(weights)) / 1e6
    card = files(__name__).joinpath(f"{weights}.md")
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    said = [line.removeprefix(_IN_ONE_LINE) for line in text.splitlines() if line.startswith(_IN_ONE_LINE)]
    return [f"weights {weights}, {size:.1f} MB{half}", *said]


def read_weights(weights: str) -> bytes:
    """Return the ONNX file of packaged weights, or of the user's own.

    Parameters
    ----------
    weights
        A name of `packaged_weights`, or the path of an ``.onnx`` file.

    Raises
    ------
    EngineError
        There is no such name or file, or it cannot be read.
    """
    names = packaged_weights()
    if weights in names:
        return files(__name__).joinpath(f"{weights}.onnx").read_bytes()
    cure = f"packaged are {', '.join(names) or 'none'}; or give the path of a file written by 'streamtrack export'"
    if not weights.endswith(".onnx"):
        raise EngineError(f"there are no weights {weights!r}: {cure}")
    try:
        return Path(weights).read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the weights {weights} ({error.strerror}): {cure}") from error
