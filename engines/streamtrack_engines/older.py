"""What older versions wrote, in the words of this one."""

from collections.abc import Mapping
from typing import Any

from streamtrack.config import plugin_table

_COLUMNS = {"y": "px", "x": "px", "score": "", "intensity": "counts", "sigma": "px"}


def recipe_as_now(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe whose crops and losses were tables of their own, and whose network had no head, as it is now."""
    now = dict(recipe)
    evaluation = dict(now.get("evaluation") or {})
    moved = {f"held_out_{name}": evaluation.pop(name) for name in ("snr", "density") if name in evaluation}
    if "crops" in now or moved:
        now["data"] = {"kind": "crops", **now.pop("crops", {}), **moved, **now.get("data", {})}
        now["evaluation"] = evaluation
    if "loss" in now:
        loss = dict(now.pop("loss"))
        now |= {"denoising": loss.pop("denoising")} if "denoising" in loss else {}
        now["head"] = {"kind": "presence", **loss}
    if isinstance(now.get("network"), str | Mapping):
        now["network"] = _network_as_now(plugin_table(now["network"]))
    return now


def _network_as_now(network: Mapping[str, Any]) -> dict[str, Any]:
    kind = {"full": "denodet"}.get(network.get("kind", "full"), network.get("kind"))
    settings = {key: value for key, value in network.items() if key != "kind"}
    if kind != "denodet" and settings.get("norm") == "batch":
        del settings["norm"]  # was a key of all networks
    return {"kind": kind, **settings}


def metadata_as_now(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a deploy file of format 1 or 2 says of itself in format 3."""
    if metadata.get("format") == 1:
        metadata = _format_2(metadata)
    return {**metadata, "format": 3} if metadata.get("format") == 2 else dict(metadata)


def _format_2(metadata: Mapping[str, Any]) -> dict[str, Any]:
    network = _network_as_now((metadata.get("recipe") or {}).get("network") or {})
    columns = [{"name": name, "unit": _COLUMNS.get(name, "")} for name in metadata["columns"]]
    return {
        **metadata,
        "format": 2,
        "network": network,
        "head": {"kind": "presence"},
        "columns": columns,
        "image": "denoised",
        "calibration": metadata.get("calibration") or (),
    }
