"""Who divided into whom, from the linker to the tables and on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from linked_movies import DIVISION, dividing, prepared
from written_tables import write_tables

from streamtrack.formats.geff import read_geff, write_geff
from streamtrack.formats.lineages import edges_of
from streamtrack.formats.tables import read_tracks
from streamtrack.testing.sinks import example_results, example_source

N_DIVIDING = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    linker = prepared(divisions=True)
    template, results = next(iter(example_results())), []
    for index, found in enumerate(dividing(n_dividing=N_DIVIDING)):
        tracks = linker.update(found, index, float(index))
        frame = replace(template.frame, index=index, time_s=float(index))
        found = replace(found, extra={"parent": tracks.parent})
        results.append(replace(template, frame=frame, detections=found, tracks=tracks, denoised=None))
    folder = tmp_path_factory.mktemp("run")
    write_tables(folder, results, replace(example_source(), columns=linker.columns))
    return folder


def test_a_daughter_has_its_parent_from_its_first_row_on(folder):
    tracks = read_tracks(folder / "tracks.parquet")
    of = tracks.groupby("particle").agg(parent=("parent", "unique"), first=("frame", "min"), last=("frame", "max"))
    assert (of["parent"].str.len() == 1).all()
    of["parent"] = of["parent"].str[0]
    daughters = of[of["parent"] >= 0]
    assert daughters["parent"].value_counts().tolist() == [2] * N_DIVIDING
    assert (daughters["first"] == DIVISION).all()
    assert (of.loc[daughters["parent"], "last"] == DIVISION - 1).all()


def test_only_the_tables_of_tracks_tell_and_the_csv_does_as_the_other(folder):
    assert "parent" not in pq.read_schema(folder / "detections.parquet").names
    written = pq.read_table(folder / "tracks.parquet").to_pandas()
    assert written["parent"].dtype == np.int64
    assert pd.read_csv(folder / "tracks.csv")["parent"].equals(written["parent"])


def test_a_graph_of_them_divides(folder, tmp_path):
    tracks = read_tracks(folder / "tracks.parquet").sort_values(["particle", "frame"], ignore_index=True)
    starts = edges_of(tracks)[:, 0]
    assert (np.unique(starts, return_counts=True)[1] == 2).sum() == N_DIVIDING
    write_geff(tracks, tmp_path / "tracks.geff")
    assert read_geff(tmp_path / "tracks.geff")["parent"].ge(0).sum() == tracks["parent"].ge(0).sum()
