"""``streamtrack relink``: tracks of a finished run, linked with what the whole movie tells."""

from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli.saying import say, say_memory
from streamtrack.errors import ConfigError
from streamtrack.output import check_output, output_file


def relink(
    table: Annotated[
        Path,
        typer.Argument(help="detections.parquet or tracks.parquet of a run, or a .csv with columns frame, y, x (px)."),
    ],
    out: Annotated[Path, typer.Option(help="File to write, .parquet.")],
    divisions: Annotated[
        bool, typer.Option("--divisions", help="Particles divide, as cells do: a column 'parent' tells out of which.")
    ] = False,
    merges: Annotated[
        bool,
        typer.Option("--merges", help="Particles merge, told by 'mass': a column 'merged_into' tells into which."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    """Link detections anew, each with all that comes before and after it.

    The online linker goes through the movie twice, the second time with what it learnt: how particles move, how often
    they are missed and for how long they stay dark. Its links are then reconsidered forwards and backwards. Detections
    that are more probably false are left out.
    """
    from streamtrack.formats.doubtful_rows import doubts_of, each_once
    from streamtrack.formats.tables import one_stream, read_tracks, write_parquet
    from streamtrack.linking.depth import MEASURED
    from streamtrack.linking.relinking import has_depth
    from streamtrack.linking.relinking import relink as relink_table

    if out.suffix.lower() != ".parquet":
        raise ConfigError(f"cannot write {out}: its name must end in .parquet; 'streamtrack convert' makes the rest")
    check_output(out, overwrite, table)
    say_memory(table)
    detections, doubled = each_once(one_stream(read_tracks(table), f"{table}"))
    doubts = doubts_of(detections)
    tracks = relink_table(detections, divisions=divisions, merges=merges)
    if len(detections) and tracks.empty:
        why = "; ".join(doubts) or "each is more probably false than a particle; have a look at its scores"
        raise ConfigError(f"{table}: not one of the {len(detections)} detections is on a track: {why}")
    say(*(f"{table}: {line}" for line in (*doubled, *doubts)))
    with output_file(out) as partial:
        write_parquet(tracks, partial)
    n_left = len(detections) - len(tracks)
    print(f"{tracks['particle'].nunique()} tracks, {len(tracks)} detections, {n_left} left out -> {out}")
    if divisions:
        print(f"  {tracks.loc[tracks['parent'] >= 0, 'parent'].nunique()} particles divided")
    if merges:
        print(f"  {tracks.loc[tracks['merged_into'] >= 0, 'merged_into'].nunique()} merges")
    if {*MEASURED} <= {*tracks.columns} and not has_depth(tracks):
        print("  by y and x alone, not by z: the table does not say how large a pixel is")
    print(f"  step of a particle per frame and axis: {tracks.attrs['step_px']:.2f} px")
