"""Makes a checkpoint of ``streamtrack train`` small enough to be kept beside the code.

``python training_state/shrink.py DIR/checkpoint.pt training_state/compact.pt``

Weights in half precision, the optimizer's memory in bfloat16 (it spans more powers of ten than half precision has). The
clock starts anew, so that whoever goes on has the whole of the recipe's learning rates; steps go on, and with them the
crops: none is seen again.
"""

import sys
from pathlib import Path
from typing import Any

import torch


def small(value: Any, dtype: torch.dtype) -> Any:
    """Return plain data with its tensors of many numbers in a smaller type."""
    if isinstance(value, dict):
        return {key: small(each, dtype) for key, each in value.items()}
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 0:
        return value.to(dtype)
    return value


def main(source: Path, target: Path) -> None:
    """Write ``target``, the small form of ``source``."""
    content = torch.load(source, map_location="cpu", weights_only=True)
    for part in ("network", "average"):
        content[part] = small(content[part], torch.float16)
    content["optimizer"]["state"] = small(content["optimizer"]["state"], torch.bfloat16)
    content |= {"elapsed_s": 0.0, "losses": content["losses"][-1:], "evaluations": content["evaluations"][-1:]}
    torch.save(content, target)
    print(f"{target}: step {content['step']}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
