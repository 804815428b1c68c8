"""What every microscope has to do, as tests.

In the tests of a plug-in::

    class TestMyMicroscope(MicroscopeTests):
        a_property = ("Laser", "Power", "0", "5")
        a_group = ("Channel", "Green", "Red")
        a_shutter = "Shutter"

        def make_microscope(self):
            return MyMicroscope(port=3)

They move the stage by some um, and open the shutter.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from streamtrack.errors import MicroscopeError
from streamtrack.protocols import HasAutofocus, HasSlm, Microscope
from streamtrack.waiting import joined_within


class MicroscopeTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Microscope`.

    Attributes
    ----------
    a_property
        Device, property, and two values that it may have.
    a_group
        Configuration group and two of its presets, which differ.
    a_shutter
        A shutter.
    an_slm
        A spatial light modulator; empty where there is none.
    tolerance_um
        How far stage and focus drive may stay off.
    timeout_s
        Longest time that one call may take.
    """

    a_property: tuple[str, str, str, str]
    a_group: tuple[str, str, str]
    a_shutter: str
    an_slm = ""
    tolerance_um = 0.1
    timeout_s = 20.0

    def make_microscope(self) -> Microscope:
        """Return a microscope."""
        raise NotImplementedError("override make_microscope: say how your microscope is made")

    @pytest.fixture
    def microscope(self) -> Iterator[Microscope]:
        """Give a microscope to a test."""
        with closing(self.make_microscope()) as microscope:
            yield microscope

    def test_its_description_goes_into_the_report(self, microscope: Microscope) -> None:
        """Which is JSON."""
        assert json.dumps(dict(microscope.info), default=str)

    def test_what_it_has_is_among_its_names(self, microscope: Microscope) -> None:
        """Names in a run's file are compared with these, before anything moves."""
        device, name, *_ = self.a_property
        group, *presets = self.a_group
        assert device in microscope.names("devices")
        assert name in microscope.names("properties", device)
        assert group in microscope.names("groups")
        assert set(presets) <= set(microscope.names("presets", group))
        assert self.a_shutter in microscope.names("shutters")

    def test_asking_for_names_and_state_changes_nothing(self, microscope: Microscope) -> None:
        """It is done in every mode, also where the run only observes."""
        before = self._state(microscope)
        self.test_what_it_has_is_among_its_names(microscope)
        assert self._state(microscope) == before

    def _state(self, microscope: Microscope) -> tuple[object, ...]:
        return (
            microscope.property_value(*self.a_property[:2]),
            microscope.preset(self.a_group[0]),
            microscope.exposure_ms(),
            microscope.stage_um(),
            microscope.focus_um(),
        )

    def test_a_property_is_what_it_was_set_to(self, microscope: Microscope) -> None:
        """As a text: light is counted by it."""
        device, name, *values = self.a_property
        for value in values:
            microscope.set_property(device, name, value)
            assert microscope.property_value(device, name) == value

    def test_a_group_is_at_the_preset_that_was_applied(self, microscope: Microscope) -> None:
        """Or at none: then its name is empty."""
        group, *presets = self.a_group
        for preset in presets:
            microscope.set_preset(group, preset)
            assert microscope.preset(group) == preset

    def test_a_shutter_opens_and_closes_and_closes_again(self, microscope: Microscope) -> None:
        """The emergency stop closes what may be closed already."""
        for opened in (True, False, False):
            microscope.set_shutter(self.a_shutter, opened)

    def test_stage_and_focus_drive_are_where_they_were_sent(self, microscope: Microscope) -> None:
        """When the call returns."""
        (x, y), z = microscope.stage_um(), microscope.focus_um()
        microscope.move_stage_um(x + 3, y - 2)
        microscope.move_focus_um(z + 1)
        np.testing.assert_allclose(microscope.stage_um(), (x + 3, y - 2), atol=self.tolerance_um)
        assert microscope.focus_um() == pytest.approx(z + 1, abs=self.tolerance_um)
        microscope.move_stage_um(x, y)
        microscope.move_focus_um(z)

    def test_the_exposure_is_what_it_was_set_to(self, microscope: Microscope) -> None:
        """To what the camera rounds it to."""
        microscope.set_exposure_ms(20.0)
        assert microscope.exposure_ms() == pytest.approx(20.0, abs=1.0)

    def test_a_modulator_shows_a_pattern_and_goes_dark_and_dark_again(self, microscope: Microscope) -> None:
        """The emergency stop makes dark what may be dark already; a pattern of another size is an error in one line."""
        if not self.an_slm:
            pytest.skip("has no SLM")
        assert isinstance(microscope, HasSlm)
        pattern = np.zeros(microscope.slm_shape(self.an_slm), np.uint8)
        pattern[3:5, 4:9] = 200
        for image in (pattern, None, None):
            microscope.show_on_slm(self.an_slm, image, 50.0)
        orders: list[Callable[[], object]] = [
            lambda: microscope.show_on_slm(self.an_slm, pattern[1:], 50.0),
            lambda: microscope.show_on_slm(self.a_shutter, pattern, 50.0),
            lambda: microscope.slm_shape(self.a_shutter),
        ]
        for order in orders:
            with pytest.raises(MicroscopeError) as caught:
                order()
            assert len(str(caught.value).splitlines()) == 1

    def test_an_autofocus_focuses_and_holds_the_focus_and_lets_go(self, microscope: Microscope) -> None:
        """If it has one."""
        if not isinstance(microscope, HasAutofocus):
            pytest.skip("has no autofocus")
        was_held = microscope.continuous_focus()
        for full in (True, False):
            microscope.autofocus(full=full, timeout_s=self.timeout_s)
        for held in (True, False, was_held):
            microscope.set_continuous_focus(held)
            assert microscope.continuous_focus() == held
        assert microscope.is_focus_locked() in (True, False)

    def test_the_direction_of_the_stage_is_measured_or_refused(self, microscope: Microscope) -> None:
        """A guess moves the stage the wrong way."""
        try:
            matrix = microscope.stage_um_per_px()
        except MicroscopeError:
            return
        assert matrix.shape == (2, 2)
        assert abs(np.linalg.det(matrix)) > 0

    def test_what_it_cannot_do_is_an_error_in_one_line_and_changes_nothing(self, microscope: Microscope) -> None:
        """Names that there are not, and numbers that are none."""
        nothing = "no such thing"
        device, name, value, _ = self.a_property
        orders: list[Callable[[], object]] = [
            lambda: microscope.names("properties", nothing),
            lambda: microscope.names("presets", nothing),
            lambda: microscope.property_value(device, nothing),
            lambda: microscope.property_value(nothing, name),
            lambda: microscope.set_property(device, nothing, value),
            lambda: microscope.preset(nothing),
            lambda: microscope.set_preset(self.a_group[0], nothing),
            lambda: microscope.set_preset(nothing, self.a_group[1]),
            lambda: microscope.set_shutter(nothing, False),
            lambda: microscope.set_exposure_ms(math.nan),
            lambda: microscope.move_stage_um(math.nan, 0.0),
            lambda: microscope.move_stage_um(0.0, math.inf),
            lambda: microscope.move_focus_um(math.nan),
        ]
        before = self._state(microscope)
        for order in orders:
            with pytest.raises(MicroscopeError) as caught:
                order()
            assert len(str(caught.value).splitlines()) == 1
        assert self._state(microscope) == before

    def test_a_halt_is_heard_when_nothing_moves_too(self, microscope: Microscope) -> None:
        """It is repeated until no move is left."""
        for _ in range(3):
            microscope.halt()

    def test_calls_come_from_several_threads(self, microscope: Microscope) -> None:
        """Actuators have a thread each, and so has the emergency stop."""
        device, name, *values = self.a_property

        def work(index: int) -> None:
            microscope.set_property(device, name, values[index % 2])
            microscope.stage_um()
            microscope.set_shutter(self.a_shutter, False)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(40)))
        assert microscope.property_value(device, name) in values

    def test_close_twice_and_nothing_is_written_afterwards(self, microscope: Microscope) -> None:
        """Nor does a call hang then."""
        microscope.close()
        microscope.close()
        errors: list[MicroscopeError] = []

        def write() -> None:
            try:
                microscope.set_shutter(self.a_shutter, False)
            except MicroscopeError as error:
                errors.append(error)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert joined_within(writer, self.timeout_s), "a call after close() does not return"
        assert errors, "a call after close() is an error"
