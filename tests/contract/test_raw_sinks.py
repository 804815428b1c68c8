from dataclasses import replace

from streamtrack.sinks.raw import RawSink
from streamtrack.testing.sinks import SinkTests
from streamtrack.types import Command


class TestRawSink(SinkTests):
    def make_sink(self):
        return RawSink()


class TestRawSinkAroundCommands(SinkTests):
    def make_sink(self):
        return RawSink(when="commands", before=2, after=1)

    def _run(self, folder, results, source=None):
        command = Command("raw", {}, 0, 0, 0, "a rule")
        super()._run(folder, [replace(r, commands=(command,) * (r.frame.index % 5 == 2)) for r in results], source)
