"""``streamtrack view``: look at a run that has ended, or one that is on."""

from pathlib import Path
from typing import Annotated

import typer

from streamtrack.errors import ConfigError


def view(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    napari: Annotated[bool, typer.Option("--napari", help="In a window of napari (extra napari).")] = False,
) -> None:
    """Look at a run: images, detections and tracks; those of a run that is on grow.

    It only reads: the run does not notice.
    """
    from streamtrack.napari.viewer import open_run

    if not napari:
        raise ConfigError("say how: --napari; a run in the browser is begun with 'track --view' or 'live --view'")
    open_run(folder)
