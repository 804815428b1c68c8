"""What writes movies: each writer with what can vary in its files. Those that are not installed are left out.

A case is one file. Its pixels are those of `movie`, so that one that is read can be compared.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import tifffile
import zarr

SIZES = {"P": 2, "T": 4, "C": 2, "Z": 3, "Y": 64, "X": 72}
AXES = ("TYX", "TCYX", "TZYX", "TCZYX")
PIXEL_UM, INTERVAL_S = 0.11, 0.05
DTYPES = ("u1", "u2", "f4")


class Case(NamedTuple):
    """A file to write, and what reading it has to give: its pixels and scale, or a refusal with these words."""

    name: str
    write: Callable[[Path], Path | None]
    axes: str = "TYX"
    dtype: str = "u2"
    pixel_um: float | None = None
    interval_s: float | None = None
    settings: Mapping[str, object] = MappingProxyType({})
    refused: str | None = None
    binned: int = 1


def movie(axes, dtype):
    """Return pixels that differ in every plane, with these axes."""
    array = np.random.default_rng(len(axes)).integers(1, 250, [SIZES[axis] for axis in axes])
    return (array * (1 if np.dtype(dtype).itemsize == 1 else 100)).astype(dtype)


def tiffs_in_their_styles() -> Iterator[Case]:
    """Every style of tifffile's metadata, with every axis, dtype and byte order."""

    def write(folder, axes, dtype, byteorder, style):
        scale = {"PhysicalSizeX": 110, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 110, "PhysicalSizeYUnit": "nm"}
        scale |= {"TimeIncrement": 50, "TimeIncrementUnit": "ms"}
        own = {
            "shaped": {"metadata": {"axes": axes}},
            "bigtiff": {"bigtiff": True, "metadata": {"axes": axes}},
            "ome": {"ome": True, "metadata": {"axes": axes} | scale},
            "imagej": {
                "imagej": True,
                "resolution": (1 / PIXEL_UM, 1 / PIXEL_UM),
                "metadata": {"axes": axes, "unit": "um", "finterval": INTERVAL_S},
            },
        }[style]
        array = movie(axes, dtype)
        tifffile.imwrite(folder / "m.tif", array, byteorder=byteorder, photometric="minisblack", **own)
        return folder / "m.tif"

    for style, axes, dtype, order in product(("shaped", "bigtiff", "ome", "imagej"), AXES, DTYPES, "<>"):
        if style == "imagej" and axes == "TCZYX":
            axes = "TZCYX"  # the only order that ImageJ has
        has_scale = {"pixel_um": PIXEL_UM, "interval_s": INTERVAL_S} if style in ("ome", "imagej") else {}
        made = partial(write, axes=axes, dtype=dtype, byteorder=order, style=style)
        yield Case(f"{style} {axes} {order}{dtype}", made, axes, dtype, **has_scale)


def tiffs_with_every_compression() -> Iterator[Case]:
    """Compressions, strips and tiles."""

    def write(folder, dtype, **options):
        array = movie("TYX", dtype)
        tifffile.imwrite(folder / "m.tif", array, photometric="minisblack", metadata={"axes": "TYX"}, **options)
        return folder / "m.tif"

    lossless = {"jpeg2000": {"reversible": True, "level": 0}, "jpegxl": {"lossless": True}}
    names = ("none", "zlib", "lzw", "zstd", "packbits", "lzma", "jpeg2000", "jpegxl", "lerc", "png")
    parts = ({}, {"rowsperstrip": 7}, {"tile": (32, 32)})
    for name, dtype, part, predictor in product(names, DTYPES, parts, (False, True)):
        if (name in ("jpeg2000", "png") and dtype == "f4") or (predictor and name not in ("zlib", "lzw", "zstd")):
            continue
        options = dict(part) if name == "none" else part | {"compression": name, "predictor": predictor}
        options |= {"compressionargs": lossless[name]} if name in lossless else {}
        yield Case(f"{name} {dtype} {part} predictor {predictor}", partial(write, dtype=dtype, **options), dtype=dtype)


def tiffs_of_other_kinds() -> Iterator[Case]:
    """Pages without metadata, pyramids, positions, an image a file, colours, and pixels that no camera gives."""

    def pages(folder, **options):
        with tifffile.TiffWriter(folder / "m.tif", **options) as tif:
            for image in movie("TYX", "u2"):
                tif.write(image, contiguous=False, photometric="minisblack", metadata=None)
        return folder / "m.tif"

    def pyramid(folder):
        whole, options = movie("TYX", "u2"), {"photometric": "minisblack", "tile": (32, 32)}
        with tifffile.TiffWriter(folder / "m.ome.tif", ome=True) as tif:
            tif.write(whole, subifds=1, metadata={"axes": "TYX"}, **options)
            tif.write(whole[:, ::2, ::2], subfiletype=1, **options)
        return folder / "m.ome.tif"

    def positions(folder):
        with tifffile.TiffWriter(folder / "m.ome.tif", ome=True) as tif:
            for position in movie("PTYX", "u2"):
                tif.write(position, photometric="minisblack", metadata={"axes": "TYX"})
        return folder / "m.ome.tif"

    def one_file_each(folder, name):
        for t, image in enumerate(movie("TYX", "u2")):
            tifffile.imwrite(folder / name.format(t), image)
        return folder

    def as_colours(folder):
        tifffile.imwrite(folder / "m.tif", movie("TYX", "u2")[:3], photometric="rgb", planarconfig="separate")
        return folder / "m.tif"

    def of_dtype(folder, dtype):
        tifffile.imwrite(folder / "m.tif", movie("TYX", dtype), photometric="minisblack")
        return folder / "m.tif"

    yield Case("pages", pages)
    yield Case("pages bigtiff big-endian", partial(pages, bigtiff=True, byteorder=">"))
    yield Case("pyramid", pyramid)
    yield Case("positions", positions, "PTYX")
    for name in ("{}.tif", "img_time{:09d}_z000.tif", "a_t{:02d}_ch1.TIF"):
        yield Case(f"files {name}", partial(one_file_each, name=name))
    yield Case("colours", as_colours, refused="is a colour image")
    yield Case("float64", partial(of_dtype, dtype="f8"), dtype="f8")
    for dtype in ("i2", "u4", "i4", "c8", "?"):
        yield Case(dtype, partial(of_dtype, dtype=dtype), refused="cannot be tracked")


def zarr_python() -> Iterator[Case]:
    """Arrays of both formats: axes, dtypes, byte orders, chunks, shards, compressors, orders in memory."""

    def write(folder, axes, dtype, chunk, **options):
        array = movie(axes, dtype)
        chunks = (chunk, *(1,) * (array.ndim - 3), 64 if chunk == 1 else 16, 72)
        shards = {"shards": tuple(2 * size for size in chunks)} if options.pop("sharded", False) else {}
        named = {"dimension_names": list(axes.lower())} if options["zarr_format"] == 3 else {}
        stored = zarr.create_array(
            folder / "m.zarr", shape=array.shape, dtype=dtype, chunks=chunks, **named, **shards, **options
        )
        stored[:] = array
        if not named:
            stored.attrs["_ARRAY_DIMENSIONS"] = list(axes.lower())
        return folder / "m.zarr"

    from numcodecs import Blosc, Delta, GZip, Zstd
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    third = ([], BloscCodec(cname="lz4"), GzipCodec(), ZstdCodec(checksum=True))
    second = (None, Blosc("zstd"), GZip(), Zstd())
    for axes, dtype, chunk in product(AXES, ("|u1", "<u2", ">u2", "<f4"), (1, 2)):
        name = f"{axes} {dtype} {chunk} frames a chunk"
        yield Case(f"3 {name}", partial(write, axes=axes, dtype=dtype, chunk=chunk, zarr_format=3), axes, dtype)
        yield Case(f"2 {name}", partial(write, axes=axes, dtype=dtype, chunk=chunk, zarr_format=2), axes, dtype)
    for number, (chunk, sharded) in product(range(4), ((1, False), (2, False), (1, True))):
        made = partial(write, axes="TYX", dtype="u2", chunk=chunk)
        options = {"zarr_format": 3, "compressors": third[number], "sharded": sharded}
        yield Case(f"3 codec {number} shards {sharded} {chunk}", partial(made, **options))
        if not sharded:
            yield Case(f"2 codec {number} {chunk}", partial(made, zarr_format=2, compressors=second[number]))
    yield Case("2 F", partial(write, axes="TYX", dtype="u2", chunk=2, zarr_format=2, order="F"))
    yield Case("2 delta", partial(write, axes="TYX", dtype="u2", chunk=2, zarr_format=2, filters=[Delta(dtype="u2")]))
    for dtype in ("i2", "u4", "?"):
        made = partial(write, axes="TYX", dtype=dtype, chunk=1, zarr_format=3)
        yield Case(dtype, made, refused="cannot be tracked")


def yaozarrs() -> Iterator[Case]:
    """OME-Zarr 0.5: levels, units, translations."""

    def write(folder, axes, n_levels, unit, time_unit, translation):
        from yaozarrs import v05
        from yaozarrs.write.v05 import write_image

        um, s = {"micrometer": 1.0, "nanometer": 1e3}[unit], {"second": 1.0, "millisecond": 1e3}[time_unit]
        array, datasets, levels = movie(axes, "u2"), [], []
        for level in range(n_levels):
            size = {"T": INTERVAL_S * s, "C": 1.0, "Z": 0.3 * um}
            scale = [size.get(axis, PIXEL_UM * um * 2**level) for axis in axes]
            transforms = [{"type": "scale", "scale": scale}]
            transforms += [{"type": "translation", "translation": [1.0] * len(axes)}] * translation
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
            levels.append(array[..., :: 2**level, :: 2**level])
        kinds = {"T": ("time", time_unit), "C": ("channel", None)}
        described = [
            {"name": axis.lower(), "type": kind} | ({"unit": of} if of else {})
            for axis in axes
            for kind, of in [kinds.get(axis, ("space", unit))]
        ]
        image = v05.Image.model_validate(
            {"version": "0.5", "multiscales": [{"name": "m", "axes": described, "datasets": datasets}]}
        )
        write_image(folder / "m.ome.zarr", image, levels, writer="zarr")
        return folder / "m.ome.zarr"

    varied = product(AXES, (1, 2), ("micrometer", "nanometer"), ("second", "millisecond"), (False, True))
    for axes, n, unit, time_unit, translation in varied:
        options = {"n_levels": n, "unit": unit, "time_unit": time_unit, "translation": translation}
        made, name = partial(write, axes=axes, **options), f"{axes} {n} levels {unit} {time_unit} {translation}"
        yield Case(name, made, axes, pixel_um=PIXEL_UM, interval_s=INTERVAL_S)
        if n > 1 and unit == "nanometer":
            of_level = {"settings": {"level": 1}, "binned": 2}
            yield Case(f"{name} level 1", made, axes, pixel_um=2 * PIXEL_UM, interval_s=INTERVAL_S, **of_level)


def ome_writers() -> Iterator[Case]:
    """Streams by pymmcore-plus: its back ends, axes, dtypes, chunks, shards."""

    def write(folder, axes, dtype, backend, shards):
        import ome_writers as ow

        dims = ow.dims_from_standard_axes(
            {axis.lower(): SIZES[axis] for axis in axes}, shard_shapes={"t": 2} if shards else None
        )
        scale = {"t": (INTERVAL_S, "second"), "y": (PIXEL_UM, "micrometer"), "x": (PIXEL_UM, "micrometer")}
        for dim in dims:
            dim.scale, dim.unit = scale.get(dim.name, (None, None))
        kind = ow.OmeTiffFormat() if backend == "tifffile" else ow.OmeZarrFormat(backend=backend)
        path = folder / f"m{kind.suffix}"
        settings = ow.AcquisitionSettings(root_path=str(path), dimensions=dims, dtype=dtype, format=kind)
        with ow.create_stream(settings) as stream:
            for image in movie(axes, dtype).reshape(-1, SIZES["Y"], SIZES["X"]):
                stream.append(image)
        return path if path.exists() else next(folder.iterdir())

    backends = ["tifffile", "zarr-python", *(["tensorstore"] if find_spec("tensorstore") else [])]
    backends += ["acquire-zarr"] if find_spec("acquire_zarr") else []
    for backend, axes, dtype in product(backends, (*AXES, "PTYX"), ("uint8", "uint16")):
        if backend == "acquire-zarr" and axes == "PTYX":
            continue
        for shards in (False, True) if backend in ("tensorstore", "acquire-zarr") else (False,):
            made = partial(write, axes=axes, dtype=dtype, backend=backend, shards=shards)
            name = f"{backend} {axes} {dtype} shards {shards}"
            interval_s = None if backend == "tifffile" else INTERVAL_S  # which it does not write down
            yield Case(name, made, axes, dtype, pixel_um=PIXEL_UM, interval_s=interval_s)


def numpy() -> Iterator[Case]:
    """Files of numpy's."""

    def write(folder, axes, dtype, order):
        np.save(folder / "m.npy", np.asarray(movie(axes, dtype), order=order))
        return folder / "m.npy"

    for axes, dtype, order in product(AXES, ("u1", "<u2", ">u2", "<f4", ">f8"), "CF"):
        said = {} if len(axes) == 3 else {"axes": axes}
        yield Case(
            f"{axes} {dtype} {order}", partial(write, axes=axes, dtype=dtype, order=order), axes, dtype, settings=said
        )
    unnamed = partial(write, axes="TCYX", dtype="u2", order="C")
    yield Case("unnamed", unnamed, "TCYX", refused="say what they are, for example --axes TCYX")
    for dtype in ("i2", "u8", "c8", "?"):
        yield Case(dtype, partial(write, axes="TYX", dtype=dtype, order="C"), refused="cannot be tracked")


def pillow() -> Iterator[Case]:
    """Multipage TIFF of Pillow's."""

    def write(folder, dtype, compression):
        from PIL import Image

        first, *others = [Image.fromarray(image) for image in movie("TYX", dtype)]
        first.save(folder / "m.tif", save_all=True, append_images=others, compression=compression)
        return folder / "m.tif"

    for dtype, compression in product(DTYPES, (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")):
        yield Case(f"{dtype} {compression}", partial(write, dtype=dtype, compression=compression), dtype=dtype)


def dask_and_xarray() -> Iterator[Case]:
    """What analysis scripts save."""

    def by_dask(folder, dtype):
        import dask.array

        dask.array.from_array(movie("TYX", dtype), chunks=(2, 64, 72)).to_zarr(str(folder / "m.zarr"))
        return folder / "m.zarr"

    def by_xarray(folder, axes, zarr_format):
        import xarray

        array = xarray.DataArray(movie(axes, "u2"), dims=list(axes.lower()), name="image")
        array.to_zarr(folder / "m.zarr", zarr_format=zarr_format, consolidated=False)
        return folder / "m.zarr"

    for dtype in DTYPES:
        yield Case(f"dask {dtype}", partial(by_dask, dtype=dtype), dtype=dtype)
    if find_spec("xarray"):
        for axes, number in product(AXES, (2, 3)):
            yield Case(f"xarray {axes} {number}", partial(by_xarray, axes=axes, zarr_format=number), axes)


def ndstorage() -> Iterator[Case]:
    """Pycromanager's data sets."""

    def write(folder, axes, dtype):
        from ndstorage import NDTiffDataset

        summary = {"PixelSize_um": PIXEL_UM, "Interval_ms": 1000 * INTERVAL_S}
        names = {"T": "time", "C": "channel", "Z": "z", "P": "position"}
        written = NDTiffDataset(str(folder), name="m", summary_metadata=summary, writable=True)
        for index in np.ndindex(*(SIZES[axis] for axis in axes[:-2])):
            at = {names[axis]: number for axis, number in zip(axes, index, strict=False)}
            at |= {"channel": ("DAPI", "GFP")[at["channel"]]} if "channel" in at else {}
            written.put_image(at, movie(axes, dtype)[index], {"ElapsedTime-ms": 1000 * INTERVAL_S * at["time"]})
        written.finish()
        written.close()
        return folder / "m_1"

    for axes, dtype in product((*AXES, "TPYX", "TPCZYX"), ("u1", "u2")):
        made = partial(write, axes=axes, dtype=dtype)
        yield Case(f"{axes} {dtype}", made, axes, dtype, pixel_um=PIXEL_UM, interval_s=INTERVAL_S)


GROUPS = {
    "tifffile, styles": (tiffs_in_their_styles, "tifffile"),
    "tifffile, compressions": (tiffs_with_every_compression, "tifffile"),
    "tifffile, other kinds": (tiffs_of_other_kinds, "tifffile"),
    "zarr-python": (zarr_python, "zarr"),
    "yaozarrs": (yaozarrs, "yaozarrs"),
    "ome-writers": (ome_writers, "ome_writers"),
    "numpy": (numpy, "numpy"),
    "Pillow": (pillow, "PIL"),
    "dask, xarray": (dask_and_xarray, "dask"),
    "ndstorage": (ndstorage, "ndstorage"),
}
"""Cases, and the module that they need."""
