"""Finds images and the marks that belong to them, in a folder or as two files."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, SourceError, foreign_errors
from streamtrack.types import Frame
from streamtrack_engines.training_data.images import MarkedImage, Reading, read_image
from streamtrack_engines.training_data.marks import COLUMNS, TABLE_ENDINGS, marks_of_labels, read_marks

_IMAGES, _MARKS = "images", ("points", "tables", "annotations", "masks", "labels")
_IS_MASK = re.compile(r"(.+?)[_.-](?:cp_)?(?:masks?|labels?|seg)", re.IGNORECASE)
_BETWEEN = "_.- "
_MASK_FOLDERS = ("masks", "labels")
Stamp = tuple[tuple[str, int, int], ...]
"""Names, times and sizes of files: what was read before is still right if they are the same."""

_HOW = "NAME.csv with columns y, x (and frame), or NAME_masks.tif"


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file, or of what is in a folder and in its folders; nothing where there is none."""
    if not path.is_dir():
        return ((path.name, path.stat().st_mtime_ns, path.stat().st_size),) if path.is_file() else ()
    folders = [path, *(each for each in path.iterdir() if each.is_dir() and each.suffix.lower() != ".zarr")]
    inside = sorted(each for folder in folders for each in folder.iterdir())
    return tuple((each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in inside)


def read_clicks(path: Path, points: Path, pixel_size_um: float | None, reading: Reading) -> Sequence[MarkedImage]:
    """Return one movie with its marks; raises StreamtrackError."""
    marks = read_marks(points, pixel_size_um)
    _refuse_empty(marks, points.name, reading)
    return [read_image(path, marks, points.name, reading)]


def read_folder(folder: Path, pixel_size_um: float | None, reading: Reading) -> Sequence[MarkedImage]:
    """Return the images of a folder with their marks; raises StreamtrackError."""
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is no folder: name the one that holds images and, beside each, its table of points"
        )
    images, tables, masks = _listed(folder)
    if not images:
        raise ConfigError(f"{folder} holds no image (TIFF, zarr, npy): name the folder that does")
    _refuse_namesakes(images)
    of_all = _table_of_all(tables, images, pixel_size_um)
    return [_read(image, images, tables, masks, of_all, pixel_size_um, reading) for image in images]


def left_out(folder: Path, pixel_size_um: float | None) -> list[str]:
    """Return what is to be said of marks in a folder that no image there has, a line each; raises StreamtrackError."""
    images, tables, masks = _listed(folder)
    stems = {image.stem for image in images}
    of_all = _table_of_all(tables, images, pixel_size_um)
    named = set() if of_all.marks is None else set(of_all.marks["image"])
    others = [
        each.name for each in tables if each != of_all.path and not any(_belongs(each, image) for image in images)
    ]
    others += [mask.name for stem, mask in masks.items() if stem not in stems]
    lines = [f"left out, as there is no image of that name: {', '.join(others)}"] if others else []
    if of_all.path is not None and (absent := sorted(named - stems)):
        lines.append(f"left out of {of_all.path.name}, as there are no such images: {', '.join(absent)}")
    both = [masks[each.stem].name for each in images if each.stem in masks and _tables_of(each, images, tables)]
    return [*lines, *([f"left out, as a table counts before a mask: {', '.join(both)}"] if both else [])]


def _listed(folder: Path) -> tuple[list[Path], list[Path], dict[str, Path]]:
    """Return images, tables, and masks by the name of their image, of a folder and of those in it for marks."""
    inner = folder / _IMAGES
    images, tables, masks = _sorted(inner if inner.is_dir() else folder)
    for beside in (
        [folder, *(folder / name for name in _MARKS)] if inner.is_dir() else [folder / name for name in _MARKS]
    ):
        if beside.is_dir():
            others, more_tables, more_masks = _sorted(beside)
            tables += more_tables
            masks |= more_masks | ({each.stem: each for each in others} if beside.name in _MASK_FOLDERS else {})
    return images, tables, masks


def _refuse_namesakes(images: list[Path]) -> None:
    for one, other in pairwise(sorted(images, key=lambda image: image.stem)):
        if one.stem == other.stem:
            raise ConfigError(f"{one.name} and {other.name} have the same marks: leave one of them in the folder")


def _sorted(folder: Path) -> tuple[list[Path], list[Path], dict[str, Path]]:
    """Return images, tables, and masks by the name of their image, that lie in a folder."""
    images, tables, masks = [], [], {}
    for each in sorted(folder.iterdir()):
        if each.name.startswith(".") or (each.is_dir() and each.suffix.lower() != ".zarr"):
            continue
        if each.suffix.lower() in TABLE_ENDINGS:
            tables.append(each)
        elif _opens(each):
            is_mask = _IS_MASK.fullmatch(each.stem)
            if is_mask:
                masks[is_mask[1]] = each
            else:
                images.append(each)
    return images, tables, masks


def _opens(path: Path) -> bool:
    try:
        registry.source_from_text(str(path))
    except SourceError:
        return False
    return True


class _OfAll(NamedTuple):
    """The table that names its images in a column, if there is one; and why others were not that, for whom lacks it."""

    path: Path | None
    marks: pd.DataFrame | None
    others: str = ""

    def of(self, image: Path) -> pd.DataFrame:
        """Return the marks of an image."""
        return pd.DataFrame(columns=COLUMNS) if self.marks is None else self.marks[self.marks["image"] == image.stem]


def _table_of_all(tables: list[Path], images: list[Path], pixel_size_um: float | None) -> _OfAll:
    """Return the table of several images, which is beside none of its name."""
    others = ""
    for table in tables:
        if any(_belongs(table, image) for image in images):
            continue
        try:
            marks = read_marks(table, pixel_size_um)
        except ConfigError as error:  # somebody's notes
            others += f"; {error}"
            continue
        if marks["image"].notna().any():
            return _OfAll(table, marks.assign(image=[Path(str(name)).stem for name in marks["image"]]))
    return _OfAll(None, None, others)


def _belongs(table: Path, image: Path) -> bool:
    rest = table.stem.removeprefix(image.stem)
    return table.stem.startswith(image.stem) and (not rest or rest[0] in _BETWEEN)


def _read(
    image: Path,
    images: list[Path],
    tables: list[Path],
    masks: dict[str, Path],
    of_all: _OfAll,
    pixel_size_um: float | None,
    reading: Reading,
) -> MarkedImage:
    """Return an image with the marks that belong to it."""
    exact = _tables_of(image, images, tables)
    if len(exact) > 1:
        raise ConfigError(f"{image.name} has two tables, {exact[0].name} and {exact[1].name}: leave one in the folder")
    if exact:
        marks, name = read_marks(exact[0], pixel_size_um), exact[0].name
    elif image.stem in masks:
        marks, name = _marks_of_mask(masks[image.stem]), masks[image.stem].name
    elif of_all.path is not None and (len(of_all.of(image)) or reading.empty_frames):
        marks, name = of_all.of(image), of_all.path.name
    else:
        raise ConfigError(
            f"{image.name} has no points beside it: add {_HOW.replace('NAME', image.stem)}, or move it away"
            f"{of_all.others}"
        )
    _refuse_empty(marks, name, reading)
    read = read_image(image, marks, name, reading)
    if (size := marks.attrs.get("mask_shape", read.raw_shape)) != read.raw_shape:
        theirs, ours = ("x".join(map(str, shape)) for shape in (size, read.raw_shape))
        raise ConfigError(f"the mask {name} is of {theirs} px, its image {image.name} of {ours} px: they must be alike")
    return read


def _tables_of(image: Path, images: list[Path], tables: list[Path]) -> list[Path]:
    """Return the tables that belong to an image more than to any other: those of its very name, if there are any."""
    nearest = [table for table in tables if _belongs(table, image)]
    nearest = [
        each
        for each in nearest
        if not any(_belongs(each, other) and len(other.stem) > len(image.stem) for other in images)
    ]
    return [table for table in nearest if table.stem == image.stem] or nearest


def _refuse_empty(marks: pd.DataFrame, name: str, reading: Reading) -> None:
    if marks.empty and not reading.empty_frames:
        raise ConfigError(
            f"{name} has no point in it: mark the particles, or say that there are none by --empty-frames"
        )


def _marks_of_mask(path: Path) -> pd.DataFrame:
    """Return the marks of a label mask, of each frame of its movie; raises ConfigError."""
    shapes, marks = [], []
    for frame, labels in _labels(path):
        shapes.append(labels.shape)
        marks.append(marks_of_labels(labels, frame))
    together = pd.concat(marks, ignore_index=True)
    together.attrs["mask_shape"] = shapes[0]
    return together


def _labels(path: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    with foreign_errors(ConfigError, f"cannot read the mask {path}"):
        if path.suffix.lower() in (".tif", ".tiff", ".npy"):  # labels may be of types that no camera gives
            import tifffile

            array = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else tifffile.imread(path)
            if array.ndim not in (2, 3) or array.dtype.kind not in "biuf":
                raise ConfigError(
                    f"{path.name} is {array.shape} {array.dtype}: a mask has a number in each pixel, 0 for none"
                )
            if array.dtype.kind == "f" and not (array == np.rint(array)).all():
                raise ConfigError(f"{path.name} has pixels that are no whole numbers: a mask numbers its objects")
            yield from enumerate(array if array.ndim == 3 else array[None])
            return
        source = registry.build("sources", PluginConfig(**registry.source_from_text(str(path)))).instance
        try:
            yield from ((frame.index, frame.pixels) for frame in source.frames() if isinstance(frame, Frame))
        finally:
            source.close()
