"""streamtrack: real-time streaming particle tracking for live microscopy.

Read :mod:`streamtrack.protocols`, then :mod:`streamtrack.step`.
"""

__version__ = "0.1.0"
