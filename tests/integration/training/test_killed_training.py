"""A training that is killed leaves no process behind."""

import subprocess
import sys

SCRIPT = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from streamtrack_engines.training.data import begin_making

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=begin_making) as maker:
        print(maker.submit(os.getpid).result(), flush=True)
        sys.stdin.read()
"""


def test_the_process_that_makes_crops_ends_with_a_training_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        assert int(training.stdout.readline()) != training.pid
        training.kill()
        training.communicate(timeout=60)  # ends when nobody holds the pipe any more
