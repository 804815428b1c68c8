from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.nearest import NearestLinker
from streamtrack.linking.trackpy_linker import TrackpyLinker
from streamtrack.protocols import Linker
from streamtrack.testing.linkers import LinkerTests


class TestImmLinker(LinkerTests):
    def make_linker(self) -> Linker:
        return ImmLinker()


class TestNearestLinker(LinkerTests):
    def make_linker(self) -> Linker:
        return NearestLinker()


class TestTrackpyLinker(LinkerTests):
    def make_linker(self) -> Linker:
        return TrackpyLinker()
