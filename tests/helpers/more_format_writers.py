"""Writers that are not installed with the tests: ``pip install acquire-zarr ngff-zarr ome-zarr`` and ``".[formats]"``.

iohub is not among them: it needs zarr before 3, and cannot be where streamtrack is.
"""

import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product

from format_writers import AXES, DTYPES, INTERVAL_S, PIXEL_UM, SIZES, Case, movie

SCALE = {"pixel_um": PIXEL_UM, "interval_s": INTERVAL_S}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
STEPS = {"t": INTERVAL_S, "c": 1.0, "z": 0.3, "y": PIXEL_UM, "x": PIXEL_UM}


def acquire_zarr() -> Iterator[Case]:
    """Streams: axes, dtypes, codecs, shards, levels, an array or OME-Zarr."""

    def write(folder, axes, dtype, codec, shard, *, is_image):
        import acquire_zarr as az

        kinds = {"T": az.DimensionType.TIME, "C": az.DimensionType.CHANNEL}
        dimensions = [
            az.Dimension(
                name=axis.lower(),
                kind=kinds.get(axis, az.DimensionType.SPACE),
                array_size_px=0 if axis == "T" else SIZES[axis],
                chunk_size_px={"Y": 32, "X": SIZES["X"]}.get(axis, 1),
                shard_size_chunks=shard if axis == "T" else 1,
                **({"unit": UNITS[axis.lower()], "scale": STEPS[axis.lower()]} if axis != "C" else {}),
            )
            for axis in axes
        ]
        options = {"output_key": "0", "is_ngff": True, "max_levels": 2} if is_image else {}
        if is_image:
            options["downsampling_method"] = az.DownsamplingMethod.DECIMATE
        if codec != "NONE":
            options["compression"] = az.CompressionSettings(
                compressor=az.Compressor.ZSTD if codec == "ZSTD" else az.Compressor.BLOSC1,
                codec=getattr(az.CompressionCodec, codec),
                level=1,
            )
        kind = {"u1": az.DataType.UINT8, "u2": az.DataType.UINT16, "f4": az.DataType.FLOAT32}[dtype]
        array = az.ArraySettings(dimensions=dimensions, data_type=kind, **options)
        path = folder / "m.zarr"
        stream = az.ZarrStream(az.StreamSettings(store_path=str(path), arrays=[array], overwrite=True))
        stream.append(movie(axes, dtype))
        stream.close()
        return path

    for axes, dtype, codec, shard in product(AXES, DTYPES, ("NONE", "BLOSC_LZ4", "ZSTD"), (1, 2)):
        made = partial(write, axes=axes, dtype=dtype, codec=codec, shard=shard)
        yield Case(f"array {axes} {dtype} {codec} {shard}", partial(made, is_image=False), axes, dtype)
        if codec == "NONE":
            yield Case(f"image {axes} {dtype} {codec} {shard}", partial(made, is_image=True), axes, dtype, **SCALE)


def ngff_zarr() -> Iterator[Case]:
    """Images of both versions of OME-Zarr, shards, zip."""

    def write(folder, axes, dtype, version, ending, **options):
        import ngff_zarr as nz

        named = {"scale": {axis: STEPS[axis] for axis in axes.lower()}}
        named["axes_units"] = {axis: unit for axis, unit in UNITS.items() if axis in axes.lower()}
        image = nz.to_ngff_image(movie(axes, dtype), dims=list(axes.lower()), **named)
        levels = nz.to_multiscales(image, scale_factors=[])
        nz.to_ngff_zarr(str(folder / f"m{ending}"), levels, version=version, **options)
        return folder / f"m{ending}"

    for axes, dtype, version in product(AXES, DTYPES, ("0.4", "0.5")):
        made = partial(write, axes=axes, dtype=dtype, version=version, ending=".ome.zarr")
        yield Case(f"{version} {axes} {dtype}", made, axes, dtype, **SCALE)
    yield Case("zip", partial(write, axes="TYX", dtype="u2", version="0.5", ending=".ozx"), **SCALE)
    made = partial(write, axes="TYX", dtype="u2", version="0.5", ending=".ome.zarr")
    yield Case("shards", partial(made, chunks_per_shard=2), **SCALE)


def ome_zarr_py() -> Iterator[Case]:
    """The reference: both versions."""

    def write(folder, axes, dtype, version):
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its own
            from ome_zarr.format import FormatV04, FormatV05
            from ome_zarr.writer import write_image

        group = zarr.open_group(folder / "m.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
        named = axes.lower()
        steps, units = {axis: STEPS[axis] for axis in named}, {axis: UNITS[axis] for axis in named if axis in UNITS}
        form = FormatV04() if version == "0.4" else FormatV05()
        options = {"fmt": form, "axes": named, "scale": steps, "axes_units": units}
        write_image(movie(axes, dtype), group, scale_factors=[], **options)
        return folder / "m.zarr"

    for axes, dtype, version in product(AXES, DTYPES, ("0.4", "0.5")):
        made = partial(write, axes=axes, dtype=dtype, version=version)
        yield Case(f"{version} {axes} {dtype}", made, axes, dtype, **SCALE)


def bioio_ome_tiff() -> Iterator[Case]:
    """OME-TIFF by bioio: axes, compressions."""

    def write(folder, axes, dtype, compression):
        from bioio_base.types import PhysicalPixelSizes
        from bioio_ome_tiff.writers import OmeTiffWriter

        sizes = PhysicalPixelSizes(0.3, PIXEL_UM, PIXEL_UM)
        path = folder / "m.ome.tiff"
        options = {"tifffile_kwargs": {"compression": compression}}
        OmeTiffWriter.save(movie(axes, dtype), path, dim_order=axes, physical_pixel_sizes=sizes, **options)
        return path

    for axes, dtype, compression in product(AXES, DTYPES, (None, "zlib", "lzw")):
        made = partial(write, axes=axes, dtype=dtype, compression=compression)
        yield Case(f"{axes} {dtype} {compression}", made, axes, dtype, pixel_um=PIXEL_UM)


def bioio_ome_zarr() -> Iterator[Case]:
    """OME-Zarr by bioio: both formats, shards."""

    def write(folder, axes, dtype, zarr_format, sharded):
        from bioio_ome_zarr.writers import OMEZarrWriter

        array, small = movie(axes, dtype), axes.lower()
        chunk = [1] * (array.ndim - 2) + list(array.shape[-2:])
        shard = {"shard_shape": [2, *chunk[1:]]} if sharded else {}
        writer = OMEZarrWriter(
            str(folder / "m.ome.zarr"),
            level_shapes=[array.shape],
            dtype=array.dtype,
            chunk_shape=chunk,
            zarr_format=zarr_format,
            axes_names=list(small),
            axes_types=[{"t": "time", "c": "channel"}.get(axis, "space") for axis in small],
            axes_units=[UNITS.get(axis) for axis in small],
            physical_pixel_size=[STEPS[axis] for axis in small],
            **shard,
        )
        writer.write_full_volume(array)
        return folder / "m.ome.zarr"

    for axes, dtype, number, sharded in product(AXES, DTYPES, (2, 3), (False, True)):
        if number == 3 or not sharded:
            made = partial(write, axes=axes, dtype=dtype, zarr_format=number, sharded=sharded)
            yield Case(f"{number} {axes} {dtype} shards {sharded}", made, axes, dtype, **SCALE)


def zeiss() -> Iterator[Case]:
    """CZI by Zeiss' own library, read through bioio-czi."""

    def write(folder, axes, dtype, compression):
        import numpy as np
        from pylibCZIrw.czi import create_czi

        with create_czi(str(folder / "m.czi"), compression_options=compression) as document:
            for index in np.ndindex(*(SIZES[axis] for axis in axes[:-2])):
                plane = dict(zip(axes, index, strict=False))
                document.write(movie(axes, dtype)[index][..., None], plane=plane)
            document.write_metadata("m", scale_x=PIXEL_UM * 1e-6, scale_y=PIXEL_UM * 1e-6)
        return folder / "m.czi"

    for axes, dtype, compression in product(AXES, ("u1", "u2", "f4"), (None, "zstd0:", "zstd1:")):
        if compression is None or dtype != "f4":  # which it does not compress
            made = partial(write, axes=axes, dtype=dtype, compression=compression)
            yield Case(f"{axes} {dtype} {compression}", made, axes, dtype, pixel_um=PIXEL_UM)


MORE_GROUPS = {
    "acquire-zarr": (acquire_zarr, "acquire_zarr"),
    "ngff-zarr": (ngff_zarr, "ngff_zarr"),
    "ome-zarr-py": (ome_zarr_py, "ome_zarr"),
    "bioio-ome-tiff": (bioio_ome_tiff, "bioio_ome_tiff"),
    "bioio-ome-zarr": (bioio_ome_zarr, "bioio_ome_zarr"),
    "pylibCZIrw": (zeiss, "bioio_czi"),
}
"""Cases, and the module that they need."""
