"""Every registered engine passes the conformance suite with its default settings; ours in each back end."""

import pytest

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import EngineError
from streamtrack.testing.engines import EngineTests
from streamtrack_engines.backends.selection import ORDER
from streamtrack_engines.engine import DenodetEngine


@pytest.mark.parametrize("kind", registry.names("engines"), scope="class")
class TestRegisteredEngines(EngineTests):
    @pytest.fixture(autouse=True)
    def _of_kind(self, kind):
        self.kind = kind
        self.sigma_px = {"cells": 4.0, "density": 4.0, "detectspot": 1.75}.get(kind, 1.2)
        self.denoises, self.finds = kind not in ("cells", "detectspot"), kind != "density"

    def make_engine(self):
        return registry.build("engines", PluginConfig(kind=self.kind)).instance


@pytest.mark.parametrize("backend", [name for name in ORDER if name != "onnxruntime"], scope="class")
class TestBackends(EngineTests):
    @pytest.fixture(autouse=True)
    def _with_backend(self, backend):
        self.backend = backend

    def make_engine(self):
        try:
            return DenodetEngine(backend=self.backend)
        except EngineError as error:
            pytest.skip(str(error))


class TestPlacesFromCrops(EngineTests):
    def make_engine(self):
        return DenodetEngine(localise="spots", backend="onnxruntime", threads=1)
