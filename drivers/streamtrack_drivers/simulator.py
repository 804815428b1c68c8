"""Simulated movies as a source: ``sim:vesicle``, ``sim:receptor``, ``sim:microtubule``."""

from collections.abc import Iterator
from dataclasses import asdict
from threading import Event

from streamtrack.clock import monotonic_ns
from streamtrack.settings import Positive, checks_settings
from streamtrack.simulation import Movie, MovieSettings, ScenarioName
from streamtrack.simulation.movie import Density, Length, Seed, Side
from streamtrack.types import Frame, SourceInfo


@checks_settings
class SimulatorSource:
    """A square movie after the Particle Tracking Challenge; ``streamtrack.simulation.ground_truth`` has its tracks.

    Parameters
    ----------
    scenario
        ``vesicle``, ``receptor`` or ``microtubule``.
    snr
        A / sqrt(A + background) with the peak amplitude A of a particle.
    density
        Particles per 512x512 px in a frame, on average; may be 0.
    frames
        Length.
    size
        Height and width in px.
    seed
        The same settings give the same movie.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    def __init__(
        self,
        *,
        scenario: ScenarioName,
        snr: Positive = 4.0,
        density: Density = 500.0,
        frames: Length = 100,
        size: Side = 512,
        seed: Seed = 1,
    ) -> None:
        settings = MovieSettings(scenario, snr, density, frames, height_px=size, width_px=size, seed=seed)
        self._movie = Movie(settings)
        self._closed = Event()

    @property
    def info(self) -> SourceInfo:
        """Name, shape, dtype, length; ``details`` are the movie's settings."""
        settings = self._movie.settings
        return SourceInfo(
            name=f"sim:{settings.scenario}",
            shape=(settings.height_px, settings.width_px),
            dtype=self._movie.dtype.name,
            n_frames=settings.frames,
            details=asdict(settings),
        )

    def frames(self) -> Iterator[Frame]:
        """Draw and yield every frame once, in order; one time unit (1 s) apart."""
        for index in self.indices():
            if self._closed.is_set():
                return
            yield self.frame_at(index)

    def indices(self) -> range:
        """Return the indices of all frames."""
        return range(len(self._movie))

    def frame_at(self, index: int) -> Frame:
        """Draw one frame."""
        return Frame(index, self._movie.noisy(index), monotonic_ns(), time_s=float(index))

    def close(self) -> None:
        """End a running ``frames()`` before its next frame."""
        self._closed.set()
