"""Diffusion from the tracks of a run, by trackpy: ``python examples/analyse_with_trackpy.py RUN/tracks.parquet``.

The table of a run has trackpy's columns, so that all of trackpy's analysis works on it as it is. Here: drop short
tracks, take off the drift of the stage, and fit the mean squared displacements, MSD(t) = 4 D t + offset. The offset
holds the localisation error (Michalet, Phys. Rev. E 82, 041914, 2010). An exponent of MSD(t) ~ t^a near 1 means
diffusion, nearer 2 directed motion; near 0 the particles are held, or move less than they are localised.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import trackpy

from streamtrack.formats.tables import read_tracks


def main() -> None:
    """Print what the table says of the motion."""
    parser = argparse.ArgumentParser(description="Diffusion from the tracks of a run, by trackpy.")
    parser.add_argument("tracks", type=Path, help="tracks.parquet of a run, or another table with particles")
    parser.add_argument("--least-frames", type=int, default=10, help="shorter tracks are dropped")
    parser.add_argument("--lags", type=int, default=4, help="time lags to fit, in frames; few, as long ones are noisy")
    arguments = parser.parse_args()
    trackpy.quiet()

    tracks = read_tracks(arguments.tracks)
    pixel_size = tracks.attrs.get("pixel_size_um", 1.0)
    frames_per_time = 1 / tracks.attrs.get("frame_interval_s", 1.0)
    space = "um" if "pixel_size_um" in tracks.attrs else "px"
    time = "s" if "frame_interval_s" in tracks.attrs else "frame"

    tracks = trackpy.filter_stubs(tracks, arguments.least_frames).reset_index(drop=True)
    if tracks.empty:
        raise SystemExit(f"no track has {arguments.least_frames} frames; lower --least-frames")
    drift = trackpy.compute_drift(tracks)
    tracks = trackpy.subtract_drift(tracks, drift)
    all_msd = trackpy.emsd(tracks, pixel_size, frames_per_time, arguments.lags)
    each_msd = trackpy.imsd(tracks, pixel_size, frames_per_time, arguments.lags)
    exponent = trackpy.utils.fit_powerlaw(all_msd, plot=False)["n"].iloc[0]
    each = each_msd.dropna(axis="columns").apply(diffusion)

    y_px, x_px = drift[["y", "x"]].iloc[-1]
    print(f"tracks of {arguments.least_frames} frames or more: {tracks['particle'].nunique()}")
    print(f"drift over the movie: y {y_px:.2f} px, x {x_px:.2f} px")
    print(f"D of all together: {diffusion(all_msd):.4g} {space}^2/{time}")
    print(f"D of each: median {each.median():.4g}, quartiles {each.quantile(0.25):.4g} to {each.quantile(0.75):.4g}")
    print(f"exponent of the MSD: {exponent:.2f}")


def diffusion(msd: pd.Series) -> float:
    """Return the diffusion coefficient: a quarter of the slope of the MSD over its lag times, the index."""
    return float(np.polyfit(msd.index.to_numpy(), msd.to_numpy(), 1)[0] / 4)


if __name__ == "__main__":
    main()
