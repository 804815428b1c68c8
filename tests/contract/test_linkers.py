from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.trackpy_linker import TrackpyLinker
from streamtrack.protocols import Linker
from streamtrack.testing.linkers import LinkerTests


class TestImmLinker(LinkerTests):
    def make_linker(self) -> Linker:
        return ImmLinker()


class TestTrackpyLinker(LinkerTests):
    def make_linker(self) -> Linker:
        return TrackpyLinker()
