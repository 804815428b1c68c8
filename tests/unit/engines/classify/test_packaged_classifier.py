"""The classifier in the package is small, and its card tells the truth about the file."""

import hashlib
from importlib.resources import files

from streamtrack.simulation.kinds import KINDS
from streamtrack_engines.classify.file import PACKAGED, open_classifier


def test_the_card_is_that_of_the_file():
    folder = files("streamtrack_engines.classify").joinpath("weights")
    content = folder.joinpath(f"{PACKAGED}.onnx").read_bytes()
    card = folder.joinpath(f"{PACKAGED}.md").read_text(encoding="utf-8")
    assert hashlib.sha256(content).hexdigest() in card
    assert len(content) < 100_000
    _, metadata = open_classifier(PACKAGED)
    assert metadata.classes == KINDS
    assert f"{metadata.accuracy:.1%}".replace("%", " %") in card
