"""Everything that can be said of a CUDA machine, in one command and without network.

``python -m benchmarks.gpu [--quick] [--out FOLDER]``

For every back end that runs on the GPU, and ONNX Runtime's own TensorRT providers where they are installed: does it
find what the CPU finds (204 simulated frames; a movie tracked by both); engine latency at 256, 512, 1024 and 2048 px,
on the device (from the upload of a frame to its table on the host) and by the wall clock, back to back and paced at
10 ms, when clocks may drop; whole runs, of our own, with a simulated camera at 1000 frames/s. And how long copies over
PCIe take. Writes ``gpu_NAME.json`` and ``.png``, NAME being the GPU's, into ``benchmarks/results``. What fails is
recorded with its reason, and the rest goes on.

Exit code 0: measured; 1: something failed; 2: this machine cannot measure. Neither zarr nor trackpy is needed. To a
machine without network carry, for its Python, the wheels of streamtrack (``pip wheel --no-deps .``) and of what it
lacks, as a rule onnx, ml-dtypes, pydantic, pydantic-core, annotated-types and typing-inspection (``pip download
--no-deps``).
"""

import argparse
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.shared.record import command_line, write

NEEDED = ("matplotlib", "numba", "onnx", "onnxruntime", "pandas", "pyarrow", "pydantic", "scipy")
RESULTS = Path(__file__).parents[1] / "results"
CPU_BACKENDS = ("openvino", "onnxruntime")


def main() -> None:
    """Run the benchmark, print its table and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything, sizes up to 512")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON and the PNG")
    arguments = parser.parse_args()
    if reason := reason_against():
        print(f"benchmarks.gpu: {reason}", file=sys.stderr)
        sys.exit(2)
    from benchmarks.gpu.measure import FULL, QUICK, measure

    reasons = reasons_against_backends()
    record = measure([name for name, reason in reasons.items() if not reason], QUICK if arguments.quick else FULL)
    record |= {"command": command_line("gpu"), "left_out": _left_out(reasons)}
    print_tables(record)
    print(f"-> {save(record, arguments.out)}")
    sys.exit(1 if record["failed"] else 0)


def reason_against() -> str | None:
    """Return in one line why this machine cannot measure, with the cure; None if it can."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        return f"not installed: {', '.join(missing)}; pip install them, or carry their wheels"
    from streamtrack.registry import names

    if not {"tables", "overview", "timings"} <= set(names("sinks")):
        return "streamtrack's plug-ins are not installed: pip install --no-deps its wheel, or pip install -e ."
    reasons = reasons_against_backends()
    if all(reasons.values()):
        why = "; ".join(f"{name}: {reason}" for name, reason in _left_out(reasons).items())
        return f"no back end for a GPU can run here ({why})"
    return None


def reasons_against_backends() -> dict[str, str | None]:
    """Return why each back end for GPUs cannot run here, None if it can; the preferred one first."""
    from benchmarks.gpu.providers import PROVIDERS
    from streamtrack_engines.backends.selection import reasons_against

    ours = {name: reason for name, reason in reasons_against().items() if name not in CPU_BACKENDS}
    return ours | {name: provider.reason_against() for name, provider in PROVIDERS.items()}


def _left_out(reasons: dict[str, str | None]) -> dict[str, str]:
    return {name: reason for name, reason in reasons.items() if reason}


def print_tables(record: dict[str, Any]) -> None:
    for name, figures in _present(record["parity"]):
        print(f"{name}: F1 with the CPU {figures['f1']:.4f}, median distance {figures['median_px']:.4f} px")
    print(f"{'ms per frame':26}{'device':>9}{'p50':>9}{'p99':>9}{'paced p50':>11}{'paced p99':>11}")
    for name, sizes in record["engine"].items():
        for px, row in _present(sizes):
            paced, wall = (row[mode]["stages_ms"]["detect"] for mode in ("paced", "back to back"))
            device, *others = map(_text, ((row["device_ms"] or {}).get("p50"), wall["p50"], wall["p99"]))
            cells = f"{device:>9}{others[0]:>9}{others[1]:>9}{_text(paced['p50']):>11}{_text(paced['p99']):>11}"
            print(f"{name + ', ' + px + ' px':26}{cells}")
    for name, row in _present(record["runs"]):
        total = row["stages_ms"]["total"]
        times = ", ".join(f"{key} {_text(total[key])}" for key in ("p50", "p99", "max"))
        print(f"{name}: a camera at 1000 frames/s, ms until decided: {times}; {row['dropped']} of {row['due']} dropped")
    for what, why in record["failed"].items():
        print(f"failed: {what}: {why}")


def _present(rows: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, row) for name, row in rows.items() if row]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def save(record: dict[str, Any], folder: Path) -> Path:
    """Write the JSON and the picture; return the path of the JSON."""
    from benchmarks.gpu.figure import draw

    gpu = (record["computer"]["gpus"] or ["unknown"])[0].partition(",")[0]
    slug = re.sub(r"[^a-z0-9]+", "_", gpu.lower()).strip("_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu_{slug}.json"
    write(record, path, draw)
    return path


if __name__ == "__main__":
    main()
