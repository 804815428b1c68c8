"""TIFF files as the field's programs write them, here without those programs. Movies are uint16, shape (T, H, W)."""

import json
import struct
from functools import partial

import numpy as np
import tifffile

GREY = {"photometric": "minisblack"}
TYX = {"metadata": {"axes": "TYX"}}


def by_tifffile(path, movie, **options):
    """Write with one call."""
    tifffile.imwrite(path, movie, **GREY, **options)


def page_by_page(path, movie, *, bigtiff=False, byteorder=None, **options):
    """Write each image by itself, its directory before it; without any metadata if ``metadata=None``."""
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as tif:
        for image in movie:
            tif.write(image, contiguous=False, **GREY, **options)


def ome_xml(movie, blocks=None, **attributes):
    """Return OME-XML for a movie; ``blocks`` are the TiffData elements, by default one for each page."""
    n, height, width = movie.shape
    blocks = blocks or "".join(f'<TiffData IFD="{t}" FirstT="{t}" PlaneCount="1"/>' for t in range(n))
    sizes = {"DimensionOrder": "XYCZT", "SizeX": width, "SizeY": height, "SizeZ": 1, "SizeC": 1, "SizeT": n}
    pixels = "".join(f' {name}="{value}"' for name, value in (sizes | attributes).items())
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<OME xmlns="{schema}"><Image ID="Image:0"><Pixels ID="Pixels:0"{pixels}>{blocks}</Pixels></Image></OME>'


def ome_page_by_page(path, movie, xml=None, **options):
    """Write OME-TIFF with each directory before its page, as Bio-Formats does."""
    with tifffile.TiffWriter(path) as tif:
        for index, image in enumerate(movie):
            description = (xml or ome_xml(movie)) if index == 0 else None
            tif.write(image, contiguous=False, metadata=None, description=description, **GREY, **options)


def imagej(path, movie):
    """Write as ImageJ does: big-endian, one directory, all images behind it."""
    n, height, width = movie.shape
    text = f"ImageJ=1.54f\nimages={n}\nframes={n}\nhyperstack=true\n".encode() + b"\0"
    pixels_at = 8 + 2 + 10 * 12 + 4 + len(text)
    tags = [(254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16 << 16), (262, 3, 1, 1 << 16)]
    tags += [(270, 2, len(text), pixels_at - len(text)), (273, 4, 1, pixels_at), (277, 3, 1, 1 << 16)]
    tags += [(278, 3, 1, height << 16), (279, 4, 1, height * width * 2)]
    head = struct.pack(">2sHIH", b"MM", 42, 8, len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags)
    path.write_bytes(head + bytes(4) + text + movie.astype(">u2").tobytes())


def mmstack(path, movie, coordinates=None, *, planned=None, index=True, elapsed_ms=None, more=None):
    """Write Micro-Manager's multipage TIFF.

    ``coordinates`` are channel, slice, frame, position of each image, ``planned`` what the summary says besides the
    number of frames, ``more`` what each image says; a killed acquisition has no ``index``.
    """
    n, height, width = movie.shape
    coordinates = coordinates or [(0, 0, t, 0) for t in range(n)]
    summary = {"MicroManagerVersion": "2.0.1", "Frames": n, "Positions": 1, "Channels": 1, "Slices": 1}
    summary = json.dumps(summary | (planned or {})).encode()
    start = 40 + len(summary) + 8 + 20 * n
    offsets, body = [], b""
    for number, (image, (c, z, t, p)) in enumerate(zip(movie, coordinates, strict=True)):
        offsets.append(start + len(body))
        pixels_at = offsets[-1] + 2 + 12 * 11 + 4
        said = {"ChannelIndex": c, "SliceIndex": z, "FrameIndex": t, "PositionIndex": p}
        said |= {"ElapsedTime-ms": elapsed_ms[number]} if elapsed_ms else {}
        said = json.dumps(said | (more or {})).encode() + b"\0"
        tags = [(254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1)]
        tags += [(262, 3, 1, 1), (273, 4, 1, pixels_at), (277, 3, 1, 1), (278, 3, 1, height)]
        tags += [(279, 4, 1, image.nbytes), (51123, 2, len(said), pixels_at + image.nbytes)]
        said += bytes((image.nbytes + len(said)) % 2)
        following = 0 if number == n - 1 else pixels_at + image.nbytes + len(said)
        body += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        body += struct.pack("<I", following) + image.astype("<u2").tobytes() + said
    rows = b"".join(struct.pack("<5I", *each, offset) for each, offset in zip(coordinates, offsets, strict=True))
    map_at = 40 + len(summary) if index else 0
    head = struct.pack("<2sHI8I", b"II", 42, start, 54773648, map_at, 0, 0, 0, 0, 2355492, len(summary)) + summary
    path.write_bytes(head + struct.pack("<II", 3453623 if index else 0, n) + rows + body)


def ndtiff(folder, images, *, per_file=1000, summary=None, said=None):
    """Write an NDTiff data set as ndstorage does, without the 4 GB that it takes meanwhile.

    ``images`` are pairs of axes and image, ``said`` tells what the metadata say of an image, from its axes.
    """
    folder.mkdir()
    summary, index, names = json.dumps(summary or {}).encode(), b"", []
    for start in range(0, len(images), per_file):
        names.append(f"{folder.name}_NDTiffStack{f'_{len(names)}' if names else ''}.tif")
        first = (28 + len(summary) + 1) // 2 * 2
        data = struct.pack("<2sHI5I", b"II", 42, first, 483729, 3, 3, 2355492, len(summary)) + summary
        for number, (axes, image) in enumerate(part := images[start : start + per_file], 1):
            data += bytes(len(data) % 2)
            metadata, pixels_at = json.dumps(said(axes) if said else {}).encode(), len(data) + 2 + 10 * 12 + 4
            following = (pixels_at + image.nbytes + len(metadata) + 1) // 2 * 2 if number < len(part) else 0
            tags = [(256, 4, 1, image.shape[1]), (257, 4, 1, image.shape[0]), (258, 3, 1, image.itemsize * 8)]
            tags += [(259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, pixels_at), (277, 3, 1, 1)]
            tags += [(278, 3, 1, image.shape[0]), (279, 4, 1, image.nbytes)]
            tags += [(51123, 2, len(metadata), pixels_at + image.nbytes)]
            data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
            data += struct.pack("<I", following) + image.tobytes() + metadata
            for text in (json.dumps(axes).encode(), names[-1].encode()):
                index += struct.pack("<I", len(text)) + text
            where = (pixels_at, image.shape[1], image.shape[0], image.itemsize - 1, 0)
            index += struct.pack("<8I", *where, pixels_at + image.nbytes, len(metadata), 0)
        (folder / names[-1]).write_bytes(data)
    (folder / "NDTiff.index").write_bytes(index)
    return folder


WRITERS = {
    "tifffile": partial(by_tifffile, **TYX),
    "tifffile zlib": partial(by_tifffile, compression="zlib", predictor=True, **TYX),
    "tifffile lzw strips": partial(by_tifffile, compression="lzw", rowsperstrip=16, **TYX),
    "tifffile zstd tiles": partial(by_tifffile, compression="zstd", tile=(32, 32), **TYX),
    "tifffile page by page": partial(page_by_page, bigtiff=True, byteorder=">", compression="zlib"),
    "imagej": imagej,
    "imagej by tifffile": partial(by_tifffile, imagej=True, **TYX),
    "ome": partial(by_tifffile, ome=True, **TYX),
    "ome lzw": partial(by_tifffile, ome=True, compression="lzw", **TYX),
    "ome page by page": ome_page_by_page,
    "micro-manager": mmstack,
    "pages": partial(page_by_page, metadata=None),
    "pages lzma": partial(page_by_page, metadata=None, compression="lzma"),
}


def random_movie(shape=(8, 40, 48), seed=0):
    """Return a movie with a camera's noise."""
    return np.random.default_rng(seed).poisson(100, shape).astype(np.uint16)
