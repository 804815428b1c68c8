"""Built TensorRT plans, kept for the next run on the same machine."""

import hashlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamtrack.errors import EngineError
from streamtrack.files import remove_file, replace_file

_MAGIC = b"streamtrack plan 1\n"
_MAX_MANIFEST = 1 << 16


def default_folder() -> Path:
    """Return where the platform keeps what can be made again: ``streamtrack/plans`` in the user's cache folder."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "streamtrack" / "plans"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a plan depends on: one that differs in any of it is another plan.

    Attributes
    ----------
    weights_sha256
        Of the ONNX file.
    input_shape
        The only one that the plan takes.
    outputs
        Names of what the plan computes.
    options
        Of the build, as text.
    library
        ``tensorrt`` or ``tensorrt_rtx`` with its exact version.
    gpu
        Name and compute capability.
    driver
        CUDA version of the driver.
    system
        Operating system and processor architecture.
    """

    weights_sha256: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    options: str
    library: str
    gpu: str
    driver: str
    system: str

    def manifest(self) -> dict[str, Any]:
        """Return the key as plain JSON has it."""
        return {**asdict(self), "input_shape": list(self.input_shape), "outputs": list(self.outputs)}

    @property
    def file_name(self) -> str:
        """Name of the plan's file."""
        text = json.dumps(self.manifest(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32] + ".plan"


class PlanCache:
    """A folder of plans, one file each: a line that says what it is, a JSON manifest, and the plan.

    All in one file, so that it appears at once and as a whole, whoever else builds the same plan at the same time.

    Parameters
    ----------
    folder
        Made when the first plan is stored; by default `default_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def load(self, key: PlanKey) -> bytes | None:
        """Return the plan of a key, None if there is none; raises EngineError if it is not to be trusted."""
        path = self.folder / key.file_name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineError(f"the plan {path} cannot be read ({error.strerror}): delete it") from error
        return _plan_of(content, key, path)

    def store(self, key: PlanKey, plan: bytes) -> None:
        """Keep a plan; raises EngineError if the folder is not writable or full."""
        manifest = {**key.manifest(), "plan_sha256": hashlib.sha256(plan).hexdigest(), "plan_bytes": len(plan)}
        content = b"".join((_MAGIC, json.dumps(manifest).encode(), b"\n", plan))
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies there is run: it is nobody else's
            _replace(self.folder / key.file_name, content)
        except OSError as error:
            raise EngineError(
                f"the plan cannot be kept in {self.folder} ({error.strerror}), so the next start takes as long: "
                "make the folder writable, or room on its disk"
            ) from error


def _plan_of(content: bytes, key: PlanKey, path: Path) -> bytes:
    """Return the plan in a cache file; raises EngineError unless the file is whole and says that it is for the key."""
    head = content[: len(_MAGIC) + _MAX_MANIFEST]
    try:
        magic, line, _ = head.split(b"\n", 2)
        manifest = json.loads(line)
        if magic + b"\n" != _MAGIC or not isinstance(manifest, dict):
            raise ValueError
    except ValueError:
        raise EngineError(f"the plan {path} is damaged or of another version") from None
    differs = [name for name, value in key.manifest().items() if manifest.get(name) != value]
    if differs:
        raise EngineError(f"the plan {path} was built for another {differs[0]} ({manifest.get(differs[0])})")
    plan = content[len(_MAGIC) + len(line) + 1 :]
    if hashlib.sha256(plan).hexdigest() != manifest.get("plan_sha256"):
        raise EngineError(f"the plan {path} is damaged: its checksum is wrong")
    return plan


def _replace(path: Path, content: bytes) -> None:
    """Write a file that appears under its name when it is complete."""
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace_file(Path(unfinished), path)
    except BaseException:
        with suppress(OSError):
            remove_file(Path(unfinished))
        raise
