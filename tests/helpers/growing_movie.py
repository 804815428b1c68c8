"""Writes a movie as a microscope does: a process of its own, 100 frames/s, with random stalls.

``python growing_movie.py WRITER PATH N``; frame i has i in its first pixel and noise above 0 elsewhere.
"""

import random
import sys
import time

import numpy as np

SIZE = (64, 64)
FRAMES_PER_S = 100


def image(index):
    """Return a frame that says which one it is."""
    pixels = np.random.default_rng(index).integers(90, 110, SIZE).astype("uint16")
    pixels[0, 0] = index
    return pixels


def paced(n):
    """Yield n frames in time, one in fifty of them up to half a second late."""
    stall, due_s = random.Random(0), time.perf_counter()
    for index in range(n):
        due_s += 1 / FRAMES_PER_S + (stall.random() < 0.02) * stall.uniform(0, 0.5)
        time.sleep(max(0.0, due_s - time.perf_counter()))
        yield index, image(index)


def zarr_array(path, n, *, promised=None, per_chunk=1, **options):
    """Grow an array with each frame, or, where its whole length is promised, fill it."""
    import zarr

    growing = zarr.create_array(
        path, shape=(promised or 0, *SIZE), chunks=(per_chunk, *SIZE), dtype="uint16", **options
    )
    for index, pixels in paced(n):
        if promised is None:
            growing.resize((index + 1, *SIZE))
        growing[index] = pixels


def liar(path, n):
    """Promise three frames, write all, and lie about the shape again after each."""
    import zarr

    growing = zarr.create_array(path, shape=(n, *SIZE), chunks=(1, *SIZE), dtype="uint16")
    about = (growing.store.root / "zarr.json").read_text()
    for index, pixels in paced(n):
        growing[index] = pixels
        claimed = (3, 10 * n)[index % 2]
        (growing.store.root / "zarr.json").write_text(about.replace(f"    {n},", f"    {claimed},", 1))


def ome_writers(path, n):
    """Let ome-writers stream it, by tensorstore."""
    from ome_writers import AcquisitionSettings, Dimension, create_stream

    sides = [
        Dimension(name=axis, count=size, chunk_size=size, type="space") for axis, size in zip("yx", SIZE, strict=True)
    ]
    time_axis = Dimension(name="t", count=None, chunk_size=1, type="time")
    backend = {"name": "ome-zarr", "backend": "tensorstore"}
    settings = AcquisitionSettings(root_path=path, dtype="uint16", format=backend, dimensions=[time_axis, *sides])
    with create_stream(settings) as stream:
        for _, pixels in paced(n):
            stream.append(pixels)


def acquire_zarr(path, n):
    """Let acquire-zarr stream it."""
    import acquire_zarr as aq

    kinds = (("t", aq.DimensionType.TIME, 0, 1), *((axis, aq.DimensionType.SPACE, SIZE[0], SIZE[0]) for axis in "yx"))
    dimensions = [
        aq.Dimension(name=axis, kind=kind, array_size_px=size, chunk_size_px=chunk, shard_size_chunks=1)
        for axis, kind, size, chunk in kinds
    ]
    array = aq.ArraySettings(dimensions=dimensions, data_type=aq.DataType.UINT16)
    stream = aq.ZarrStream(aq.StreamSettings(store_path=path, arrays=[array]))
    for _, pixels in paced(n):
        stream.append(pixels)
    stream.close()


def ndtiff(path, n):
    """Let pycromanager's library write it."""
    from ndstorage import NDTiffDataset

    movie = NDTiffDataset(path, summary_metadata={"PixelSize_um": 0.1}, writable=True, name="m")
    for index, pixels in paced(n):
        movie.put_image({"time": index}, pixels, {"ElapsedTime-ms": 10 * index})
    movie.finish()


WRITERS = {
    "format 3": zarr_array,
    "whole length at first": lambda path, n: zarr_array(path, n, promised=n),
    "more than comes": lambda path, n: zarr_array(path, n, promised=2 * n),
    "shards": lambda path, n: zarr_array(path, n, shards=(16, *SIZE)),
    "16 frames a chunk": lambda path, n: zarr_array(path, n, per_chunk=16),
    "liar": liar,
    "ome-writers": ome_writers,
    "acquire-zarr": acquire_zarr,
    "ndtiff": ndtiff,
}

if __name__ == "__main__":
    WRITERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
