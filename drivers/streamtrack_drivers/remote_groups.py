"""What is in a zarr group on a server: by metadata where they tell, since web servers list nothing; many at a time."""

import asyncio
from collections.abc import Callable
from typing import Any

import zarr
from zarr.api.asynchronous import open_group
from zarr.core.sync import sync

from streamtrack.errors import SourceError
from streamtrack_drivers.remote import RemoteStore

MOST_AT_ONCE = 16
"""Nodes that are asked for; each takes up to four objects."""

Node = zarr.Array[Any] | zarr.Group


def nodes_below(group: zarr.Group, is_image: Callable[[zarr.Group], bool], most_deep: int) -> list[tuple[str, Node]]:
    """Return arrays and images below a group with their paths in it, sorted as their folders would be.

    Raises
    ------
    SourceError
        The server does not tell what is in a group, and neither do metadata.
    """
    return sync(_Walk(is_image, most_deep).below(group, ""))


class _Walk:
    def __init__(self, is_image: Callable[[zarr.Group], bool], most_deep: int) -> None:
        self._is_image, self._most_deep = is_image, most_deep
        self._free = asyncio.Semaphore(MOST_AT_ONCE)

    async def below(self, group: zarr.Group, prefix: str) -> list[tuple[str, Node]]:
        names = sorted(await _names(group))
        found = await asyncio.gather(*(self._at(group, prefix, name) for name in names))
        return [each for some in found for each in some]

    async def _at(self, group: zarr.Group, prefix: str, name: str) -> list[tuple[str, Node]]:
        async with self._free:
            node = await _open(group, name)
        if node is None:
            return []
        if isinstance(node, zarr.Group) and not self._is_image(node):
            return await self.below(node, f"{prefix}{name}/") if prefix.count("/") < self._most_deep else []
        return [(prefix + name, node)]


async def _open(group: zarr.Group, name: str) -> Node | None:
    try:
        node = await group._async_group.getitem(name)
    except KeyError:
        return None
    return zarr.Array(node) if isinstance(node, zarr.AsyncArray) else zarr.Group(node)


async def _names(group: zarr.Group) -> list[str]:
    """Return the names of what is in a group, paths of those that are said to lie deeper; SourceError if none tells."""
    ome: Any = group.attrs.asdict()
    ome = ome.get("ome", ome)
    if isinstance(ome, dict):
        if plate := ome.get("plate"):
            return [str(well["path"]) for well in plate["wells"]]
        if well := ome.get("well"):
            return [str(image["path"]) for image in well["images"]]
        if "bioformats2raw.layout" in ome and isinstance(series := await _open(group, "OME"), zarr.Group):
            said: Any = series.attrs.asdict()
            return [str(name) for name in said.get("ome", said)["series"]]
    assert isinstance(group.store, RemoteStore)
    if group.store.can_list:
        return [name async for name in group._async_group.keys()]
    try:
        known = await open_group(store=group.store, path=group.path, mode="r", use_consolidated=True)
    except ValueError:
        cure = "add the path of an image in it to the address"
        raise SourceError(f"is a group, and a web server does not list what is in one: {cure}") from None
    return [name async for name in known.keys()]
