"""Networks, their training, export and weights, and the back ends that run them.

Nothing of it tells anybody of its use: ONNX Runtime from 1.29 on sends Microsoft a message of each network that it
loads, with a number that stands for the computer, unless it is told not to before it is imported.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
