"""The notebook in ``examples`` runs from top to bottom."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


def test_the_notebook_runs_and_shows_tracks_and_picture():
    notebook = NotebookClient(nbformat.read(NOTEBOOK, as_version=4), timeout=240, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    said = "".join(output.text for output in shown if output.output_type == "stream")
    assert "tracking 40/40 frames" in said
    assert "Warning" not in said
