"""Writes a movie as a microscope does: a process of its own, 100 frames/s, with random stalls.

``python growing_movie.py WRITER PATH N``; frame i has i in its first pixel and noise above 0 elsewhere.
"""

import random
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np

from streamtrack.types import LostFrame

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


def tiff(path, n, *, ome=False, described=None, **options):
    """Let tifffile write a page a frame; the first one may say how many are planned."""
    import tifffile

    about = {} if described is None else {"description": described, "metadata": None}
    with tifffile.TiffWriter(path, ome=ome) as file:
        for _, pixels in paced(n):
            file.write(pixels, contiguous=False, **about, **options)
            about = about and {"metadata": None}


def tiff_appended(path, n):
    """Open the file anew for each frame."""
    import tifffile

    for _, pixels in paced(n):
        tifffile.imwrite(path, pixels, append=True)


def tiff_of_two_channels(path, n):
    """Write frames, and their negatives as another channel."""
    import tifffile

    described = {"description": ome_xml(n, 2), "metadata": None}
    with tifffile.TiffWriter(path, ome=False) as file:
        for _, pixels in paced(n):
            file.write(60_000 - pixels, contiguous=False, **described)
            described = {"metadata": None}
            file.write(pixels, contiguous=False, **described)


def tiff_reserved(path, n):
    """Reserve the whole file, as pymmcore-plus does, and fill it in, row by row."""
    import tifffile

    movie = tifffile.memmap(path, shape=(2 * n, *SIZE), dtype="uint16", metadata={"axes": "TYX"})
    for index, pixels in paced(n):
        for row, values in enumerate(pixels):
            movie[index, row] = values
            if row == SIZE[0] // 2:
                time.sleep(0.005)


def tiff_in_pieces(path, n):
    """Write the bytes of a TIFF file some at a time: whatever is seen of it may be torn."""
    import io

    import tifffile

    whole = io.BytesIO()
    with tifffile.TiffWriter(whole) as file:
        for index in range(n):
            file.write(image(index), contiguous=False, metadata=None)
    data = whole.getvalue()
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(data), 1000):
            file.write(data[at : at + 1000])
            time.sleep(0.001)


def tiff_with_its_list_at_the_end(path, n):
    """Write pixels behind pixels, of which only the closed file says that they are pages."""
    import tifffile

    with tifffile.TiffWriter(path) as file:
        for _, pixels in paced(n):
            file.write(pixels, contiguous=True)


def ome_xml(n_frames, n_channels=1):
    """Return what OME-XML says of a movie that is planned."""
    sizes = f'SizeX="{SIZE[1]}" SizeY="{SIZE[0]}" SizeZ="1" SizeC="{n_channels}" SizeT="{n_frames}"'
    scale = 'PhysicalSizeX="0.1" PhysicalSizeY="0.1" TimeIncrement="0.01"'
    channels = "".join(f'<Channel ID="Channel:0:{c}" Name="c{c}"/>' for c in range(n_channels))
    pixels = f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" {sizes} {scale}>'
    pixels += f"{channels}<TiffData/></Pixels>"
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{schema}"><Image ID="Image:0">{pixels}</Image></OME>'


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
TIFF_WRITERS = {
    "pages": tiff,
    "compressed pages": lambda path, n: tiff(path, n, compression="zlib", rowsperstrip=16),
    "OME at the end": lambda path, n: tiff(path, n, ome=True),
    "OME at the start": lambda path, n: tiff(path, n, described=ome_xml(n)),
    "opened each time": tiff_appended,
    "in pieces": tiff_in_pieces,
    "list at the end": tiff_with_its_list_at_the_end,
    "promises too much": lambda path, n: tiff(path, n, described=ome_xml(2 * n)),
    "promises too little": lambda path, n: tiff(path, n, described=ome_xml(3)),
    "two channels": tiff_of_two_channels,
    "reserved": tiff_reserved,
}
WRITERS |= TIFF_WRITERS


@contextmanager
def processes():
    """Yield a function that starts a writer and returns its process; in the end all are ended."""
    begun = []

    def begin(writer, path, n):
        begun.append(subprocess.Popen([sys.executable, __file__, writer, str(path), str(n)]))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def read(source):
    """Return what comes of a movie: indices, those that are not what was written, and causes of loss."""
    indices, wrong, lost = [], [], {}
    for item in source.frames():
        indices.append(item.index)
        if isinstance(item, LostFrame):
            lost[item.index] = item.cause
        elif not np.array_equal(item.pixels, image(item.index)):
            wrong.append(item.index)
    source.close()
    return indices, wrong, lost


if __name__ == "__main__":
    WRITERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
