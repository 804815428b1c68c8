"""Every registered engine, with its default settings, passes the conformance suite."""

import pytest

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.testing.engines import EngineTests


@pytest.mark.parametrize("kind", registry.names("engines"), scope="class")
class TestRegisteredEngines(EngineTests):
    @pytest.fixture(autouse=True)
    def _of_kind(self, kind):
        self.kind = kind

    def make_engine(self):
        return registry.build("engines", PluginConfig(kind=self.kind)).instance
