import threading

import pytest

from streamtrack.errors import MicroscopeError
from streamtrack.testing.microscope import SimulatedMicroscope


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("set_property", ("Laser", "Colour", "1"), r"no property 'Laser.Colour' \(known: Laser.Power\)"),
        ("set_preset", ("Objective", "60x"), "no group 'Objective'"),
        ("set_preset", ("Channel", "Blue"), r"no preset 'Blue' \(known: Green, Red\)"),
        ("set_shutter", ("Lamp", True), "no shutter 'Lamp'"),
        ("set_exposure_ms", (-1,), "exposure of -1 ms"),
        ("move_stage_um", (float("nan"), 0), "finite"),
        ("move_focus_um", (float("inf"),), "finite"),
    ],
)
def test_it_refuses_what_it_does_not_have(method, arguments, message):
    microscope = SimulatedMicroscope()
    with pytest.raises(MicroscopeError, match=message):
        getattr(microscope, method)(*arguments)
    assert not microscope.calls


def test_closing_ends_a_write_that_takes_long():
    microscope = SimulatedMicroscope(delay_ms=60_000)
    errors = []

    def write():
        try:
            microscope.move_focus_um(1)
        except MicroscopeError as error:
            errors.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    microscope.close()
    writer.join(10)
    assert len(errors) == 1
    assert microscope.focus_um() == 0
