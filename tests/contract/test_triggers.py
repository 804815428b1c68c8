"""Every trigger that comes with streamtrack does what a trigger has to do."""

import pytest

from streamtrack import registry
from streamtrack.testing.triggers import TriggerTests
from streamtrack.triggers.count import Count
from streamtrack.triggers.life import Appears, Disappears, Divides, Older
from streamtrack.triggers.meet import Meet
from streamtrack.triggers.motion import Displacement, ModeSwitch, Speed
from streamtrack.triggers.nearest import Nearest
from streamtrack.triggers.posted import Posted
from streamtrack.triggers.python import PythonTrigger
from streamtrack.triggers.region import Region
from streamtrack.triggers.value import Value


class TestAppears(TriggerTests):
    def make_trigger(self):
        return Appears()


class TestCount(TriggerTests):
    def make_trigger(self):
        return Count(above=9, release=8, for_s=0.2, y_px=(0, 48))


class TestDisappears(TriggerTests):
    def make_trigger(self):
        return Disappears()


class TestDisplacement(TriggerTests):
    def make_trigger(self):
        return Displacement(above_um=1.0)


class TestDivides(TriggerTests):
    def make_trigger(self):
        return Divides()


class TestMeet(TriggerTests):
    def make_trigger(self):
        return Meet(within_px=4)


class TestModeSwitch(TriggerTests):
    def make_trigger(self):
        return ModeSwitch(to="directed")


class TestNearest(TriggerTests):
    def make_trigger(self):
        return Nearest(hold=True, max_distance_px=40)


class TestOlder(TriggerTests):
    def make_trigger(self):
        return Older(frames=20)


class TestPosted(TriggerTests):
    fires = False  # nobody posts anything

    def make_trigger(self):
        return Posted(event="drug")


class TestPython(TriggerTests):
    @pytest.fixture(autouse=True)
    def _module_of_the_lab(self, tmp_path, monkeypatch):
        (tmp_path / "crowds_of_a_lab.py").write_text("def crowd(frame, tracks): return len(tracks) > 18")
        monkeypatch.syspath_prepend(tmp_path)

    def make_trigger(self):
        return PythonTrigger(function="crowds_of_a_lab:crowd")


class TestRegion(TriggerTests):
    def make_trigger(self):
        return Region(polygon_px=[(10, 10), (10, 100), (80, 50)])


class TestRegionLeft(TriggerTests):
    def make_trigger(self):
        return Region(on="leaves", x_px=(30, 70))


class TestSpeed(TriggerTests):
    def make_trigger(self):
        return Speed(above_px_s=10)


class TestValueOfTracks(TriggerTests):
    def make_trigger(self):
        return Value(column="intensity", above=700, release=300, for_frames=2)


class TestValueOfFrames(TriggerTests):
    def make_trigger(self):
        return Value(column="focus", below=0.1, release=0.5, per="frame")


@pytest.mark.parametrize("kind", registry.names("triggers"))
def test_every_registered_trigger_is_tested(kind):
    tested = (TestAppears, TestCount, TestDisappears, TestDisplacement, TestDivides, TestMeet, TestModeSwitch)
    tested += (TestNearest, TestOlder, TestPosted, TestRegion, TestSpeed, TestValueOfTracks)
    assert registry.load("triggers", kind) in {PythonTrigger, *(type(each().make_trigger()) for each in tested)}
