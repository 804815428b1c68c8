"""The folder of a run: what may lie in it, and what a new run may remove from it."""

from pathlib import Path

from streamtrack.errors import ConfigError
from streamtrack.files import remove_file, remove_tree
from streamtrack.report import COMMANDS_NAME, REPORT_NAME

STOP_NAME = "stop"
"""A file of this name in the folder of a run stops it."""
UNFINISHED_NAME = "detections.partial.arrows"
"""What a killed run leaves besides its report, for ``streamtrack recover``."""
RESULT_NAMES = (
    REPORT_NAME,
    COMMANDS_NAME,
    "detections.parquet",
    "tracks.parquet",
    "tracks.csv",
    "overview.png",
    "raw.ome.zarr",
    "events",
    "timings.npy",
)
"""What a run leaves in its folder; ``--overwrite`` removes these and unfinished ``*.partial*`` files, nothing else."""


class RunFolder:
    """The folder that a run writes into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def has_report(self) -> bool:
        """Whether a run has left its report here."""
        return (self.path / REPORT_NAME).exists()

    def check(self, overwrite: bool) -> None:
        """Raise ConfigError where the folder holds results that may not be replaced."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; give --out a folder")
        if overwrite:
            return
        if (self.path / UNFINISHED_NAME).exists():
            cure = f"save it with 'streamtrack recover {self.path}', or pass --overwrite"
            raise ConfigError(f"{self.path} holds a run that was killed: {cure}")
        held = [name for name in RESULT_NAMES if (self.path / name).exists()]
        if held:
            raise ConfigError(f"{self.path} already holds {', '.join(held)}; choose another folder or pass --overwrite")

    def clear(self) -> None:
        """Make the folder, or remove from it what an earlier run left; raises ConfigError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for old in (*(self.path / name for name in RESULT_NAMES), *self.path.glob("*.partial*")):
                if old.is_dir():
                    remove_tree(old)
                else:
                    remove_file(old)
        except OSError as error:
            raise ConfigError(f"cannot write into {self.path}: {error.strerror or error}") from error
