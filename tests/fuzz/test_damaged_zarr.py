"""Movies in zarr of several writers, damaged: each frame is true, or lost; or the movie is refused."""

import itertools
import shutil
from importlib.util import find_spec

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from streamtrack.errors import StreamtrackError
from streamtrack.types import Frame
from streamtrack_drivers.zarr_movie import ZarrSource

MOVIE = np.random.default_rng(0).poisson(100, (6, 40, 48)).astype(np.uint16)
MOVIE_NAME = "m.ome.zarr"
METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
AXES = [{"name": "t", "type": "time", "unit": "second"}, *({"name": a, "type": "space"} for a in "yx")]
SCALE = [{"type": "scale", "scale": [0.1, 0.2, 0.2]}]
MULTISCALES = [{"axes": AXES, "datasets": [{"path": "0", "coordinateTransformations": SCALE}]}]


def plain(path, **options):
    zarr.create_array(path, data=MOVIE, **{"chunks": (1, 40, 48), **options})


def ome(path, zarr_format, **options):
    attributes = {"multiscales": MULTISCALES} if zarr_format == 2 else {"ome": {"multiscales": MULTISCALES}}
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format, attributes=attributes)
    group.create_array("0", data=MOVIE, chunks=(1, 40, 48), **options)


def zipped(path):
    """Zip files have a checksum of each member, and their list of members at the end."""
    with zarr.storage.ZipStore(path, mode="w") as store:
        plain(store)


def by_tensorstore(path, driver, **metadata):
    import tensorstore

    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
    store = tensorstore.open(spec, create=True, dtype=tensorstore.uint16, shape=MOVIE.shape).result()
    store.write(MOVIE).result()


def by_ome_writers(path):
    import ome_writers

    sizes = zip("tyx", MOVIE.shape, strict=True)
    dimensions = [ome_writers.Dimension(name=n, count=c, chunk_size=1 if n == "t" else c) for n, c in sizes]
    settings = ome_writers.AcquisitionSettings(
        root_path=str(path), dimensions=dimensions, dtype="uint16", format="tensorstore", overwrite=True
    )
    with ome_writers.create_stream(settings) as stream:
        for image in MOVIE:
            stream.append(image)


WRITERS = {
    "2 blosc": lambda path: plain(path, zarr_format=2, compressors=numcodecs.Blosc()),
    "2 zlib, delta": lambda path: plain(
        path, zarr_format=2, compressors=numcodecs.Zlib(), filters=[numcodecs.Delta(dtype="u2")]
    ),
    "2 raw, tiles": lambda path: plain(path, zarr_format=2, compressors=None, chunks=(2, 20, 48)),
    "3 blosc": lambda path: plain(path, compressors=BloscCodec()),
    "3 gzip, checked": lambda path: plain(path, compressors=GzipCodec()),
    "3 zstd, checked": lambda path: plain(path, compressors=ZstdCodec(checksum=True), chunks=(4, 40, 24)),
    "3 sharded": lambda path: plain(path, compressors=BloscCodec(), shards=(3, 40, 48)),
    "3 sharded, checked": lambda path: plain(path, compressors=Crc32cCodec(), chunks=(1, 20, 24), shards=(2, 40, 48)),
    "OME 0.4": lambda path: ome(path, 2, compressors=numcodecs.GZip()),
    "OME 0.5, checked": lambda path: ome(path, 3, compressors=(ZstdCodec(), Crc32cCodec()), shards=(6, 40, 48)),
    "zip, checked": zipped,
}
if find_spec("tensorstore"):
    WRITERS["tensorstore 2"] = lambda path: by_tensorstore(path, "zarr", chunks=[1, 40, 48])
    WRITERS["tensorstore 3"] = lambda path: by_tensorstore(path, "zarr3")
    if find_spec("ome_writers"):
        WRITERS["ome-writers"] = by_ome_writers


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movies")
    for name, write in WRITERS.items():
        (folder / name).mkdir()
        write(folder / name / MOVIE_NAME)
    return folder


def read(path):
    """Return the first items of a movie; a broken shape may promise any number."""
    source = ZarrSource(path=path)
    try:
        return list(itertools.islice(source.frames(), 100))
    finally:
        source.close()


@pytest.mark.inputs(140)
def test_each_frame_of_a_damaged_movie_is_true_or_lost(seed, rng, movies, damage, outcome, tmp_path):
    name = list(WRITERS)[seed % len(WRITERS)]
    movie = shutil.copytree(movies / name, tmp_path / name)
    file = rng.choice(sorted(path for path in movie.rglob("*") if path.is_file()))
    kind = damage(file)
    items = outcome(lambda: read(movie / MOVIE_NAME))
    if file.name in METADATA or isinstance(items, StreamtrackError):
        return  # with other metadata it is another movie
    assert [item.index for item in items] == list(range(6))
    if kind in ("gone", "empty", "cut off") or name.endswith("checked"):  # else nobody can tell
        frames = [item for item in items if isinstance(item, Frame)]
        assert all(np.array_equal(frame.pixels, MOVIE[frame.index]) for frame in frames)
