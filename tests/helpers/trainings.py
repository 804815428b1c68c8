"""``streamtrack train`` in this process, and a folder of marked images to learn from."""

import tifffile
import typer
from typer.testing import CliRunner

from streamtrack.simulation import Movie, MovieSettings
from streamtrack_engines.training.command import train_command


def run(*arguments):
    """Return what comes of the command."""
    app = typer.Typer()
    app.command()(train_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def mark_images(folder, n, snr):
    """Make a folder of images of 160 x 160 px, with a table of points beside each."""
    folder.mkdir()
    for number in range(n):
        movie = Movie(MovieSettings("vesicle", snr, 400.0, 4, height_px=160, width_px=160, seed=50 + number))
        tifffile.imwrite(folder / f"{number}.tif", movie.noisy(0))
        truth = movie.tracks.loc[movie.tracks["frame"] == 0, ["y", "x"]]
        truth.to_csv(folder / f"{number}.csv", index=False)
