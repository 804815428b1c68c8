"""A damaged chunk cannot fill the memory."""

import gzip
import os
import struct
import subprocess
import sys
import zlib

import numcodecs
import numpy as np
import pytest
import zarr

SHAPE = (8, 64, 64)
MOVIE = np.random.default_rng(0).poisson(100, SHAPE)


def create(path, **options):
    return zarr.create_array(path, shape=SHAPE, chunks=(1, 64, 64), dtype="uint16", **options)


def bombs():
    """Return chunks that claim more than 2 GB, or expand to 60 MB, by codec."""
    return {
        "blosc": bytes([2, 1, 1, 2]) + struct.pack("<III", 2**31 - 1, 2**16, 24) + bytes(8),
        "zstd": bytes.fromhex("28b52ffde0") + struct.pack("<Q", 40 * 10**9) + bytes(100),
        "lz4": struct.pack("<I", 2**31 - 1) + bytes(100),
        "gzip": gzip.compress(bytes(60 * 10**6), 9),
        "zlib": zlib.compress(bytes(60 * 10**6), 9),
    }


READ_IN_LITTLE_MEMORY = """
import re, sys
from pathlib import Path
from streamtrack_drivers.zarr_movie import ZarrSource
from streamtrack.types import LostFrame

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

folder, *names = sys.argv[1:]
for name in names:
    movie = Path(folder) / name
    ZarrSource(path=movie).close()
    before = peak()
    lost = {item.index: item.cause for item in ZarrSource(path=movie).frames() if isinstance(item, LostFrame)}
    print(name, (peak() - before) // 10**6, "MB", lost, file=sys.stderr)
    assert list(lost) == [3] and peak() - before < 50e6
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory in /proc")
def test_a_chunk_that_claims_gigabytes_costs_no_more_than_its_shape(tmp_path):
    chunks = bombs()
    for codec, chunk in chunks.items():
        create(tmp_path / codec, zarr_format=2, compressors=numcodecs.get_codec({"id": codec}))[:] = MOVIE
        (tmp_path / codec / "3.0.0").write_bytes(chunk)
    create(tmp_path / "raw", zarr_format=2, compressors=None)[:] = MOVIE
    os.truncate(tmp_path / "raw" / "3.0.0", 40 * 10**9)  # a sparse file
    command = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, tmp_path, "raw", *chunks]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
