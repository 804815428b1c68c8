"""The plug-in for napari: what a run left, or writes, as layers. Only `viewer` imports napari itself."""
