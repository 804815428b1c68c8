"""Movies in TIFF: plain stacks, OME-TIFF, ImageJ hyperstacks, Micro-Manager's stacks.

What a file promises (`movies`, `ome`, `mmstack`) is compared with the pages that are in it (`pages`, `planes`).
"""

from streamtrack_drivers.tiff_stack.source import TiffSource

__all__ = ["TiffSource"]
