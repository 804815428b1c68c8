"""The frames of a movie that is searched elsewhere: each once, in order, whatever comes back when."""

from pathlib import Path

import numpy as np
import pytest

from streamtrack.errors import SourceError
from streamtrack.offline.blocks import BlockEngine, BlockSource, cut, said_of
from streamtrack.offline.jobs import Declared, FoundBlock, Job, search
from streamtrack.types import LostFrame, SourceInfo

JOB = Job({"kind": "sim"}, {"kind": "none"}, Path())


def block_of(job, lost=(), remarks=()):
    """What a worker that finds as many particles as a frame's index says."""
    kept = [index for index in range(job.first, job.last) if index not in lost]
    return FoundBlock(
        np.array([(index, index, 0, 7) for index in kept], np.int64).reshape(-1, 4),
        np.array(kept, float),
        np.concatenate([np.full((index, 6), index, np.float32) for index in [0, *kept]]),
        ("width",),
        (),
        (),
        tuple((index, "gone") for index in range(job.first, job.last) if index in lost),
        None,
        None,
        {"backend": "none"},
        tuple(remarks),
        (),
    )


class Done:
    def __init__(self, outcome, polls=0):
        self.outcome, self.polls, self.released = outcome, polls, False

    def ready(self, timeout_s):
        self.polls -= 1
        return self.polls < 0

    def result(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self):
        self.released = True


def source_of(jobs, submit, trouble=lambda: "", timeout_s=60.0, ahead=2):
    return BlockSource(SourceInfo("movie", (8, 8), "uint16", 10), jobs, submit, trouble, ahead, timeout_s)


@pytest.mark.parametrize(("frames", "length"), [(range(10), 4), (range(5, 105), 32), (range(7), 100), (range(1), 1)])
def test_blocks_cover_the_movie_and_know_the_frames_before(frames, length):
    jobs = cut(JOB, frames, length, before=2)
    assert [index for job in jobs for index in range(job.first, job.last)] == list(frames)
    assert [job.shown_from for job in jobs] == [max(frames.start, job.first - 2) for job in jobs]
    assert [job.is_last for job in jobs] == [False] * (len(jobs) - 1) + [True]
    lengths = [job.last - job.first for job in jobs]
    assert max(lengths) <= length
    assert max(lengths) - min(lengths) <= 1


def test_every_frame_comes_once_in_order_and_few_blocks_are_under_way():
    jobs, promises, asked = cut(JOB, range(10), 2, 2), [], []

    def submit(job):
        promises.append(Done(block_of(job, lost={0, 3, 4, 9}), polls=len(promises)))
        return promises[-1]

    for item in source_of(jobs, submit).frames():
        asked.append((item.index, isinstance(item, LostFrame), sum(not each.released for each in promises)))
    assert [index for index, _, _ in asked] == list(range(10))
    assert [index for index, lost, _ in asked if lost] == [0, 3, 4, 9]
    assert max(under_way for _, _, under_way in asked) <= 2
    assert all(each.released for each in promises)


def test_the_engine_knows_what_was_found():
    source = source_of(cut(JOB, range(4), 2, 0), lambda job: Done(block_of(job)))
    engine = BlockEngine(Declared((), (), "denoised", 0, {}), {"kind": "none"}, source, 2)
    found = [engine.see(frame, denoise=False).detections for frame in source.frames()]
    assert [len(each) for each in found] == [0, 1, 2, 3]
    assert found[3].y.tolist() == found[3].extra["width"].tolist() == [3, 3, 3]
    assert found[3].y.dtype == np.float32
    assert engine.info == {"backend": "none", "settings": {"kind": "none"}}


@pytest.mark.parametrize(
    ("promise", "trouble", "said"),
    [
        (Done(ValueError("bad pixel")), "", "frames 0 to 1 could not be searched: ValueError: bad pixel"),
        (Done(None, polls=9), "the scheduler is gone", "frames 0 to 1 could not be searched: the scheduler is gone"),
        (Done(OSError("x")), "there is no worker", "frames 0 to 1 could not be searched: there is no worker"),
        (Done(None, polls=9), "", "no worker had them done within 0 s"),
    ],
)
def test_a_block_that_fails_is_named_and_the_others_are_let_go(promise, trouble, said):
    promises = [promise]

    def submit(job):
        promises.append(Done(None, polls=99))
        return promises[-2]

    with pytest.raises(SourceError, match=said):
        list(source_of(cut(JOB, range(10), 2, 0), submit, lambda: trouble, timeout_s=0).frames())
    assert all(each.released for each in promises[1:-1])


def test_a_block_whose_worker_was_lost_is_waited_for_again():
    job = cut(JOB, range(2), 2, 0)[0]
    outcomes = iter([None, None, block_of(job)])

    class Lost(Done):
        def result(self):
            return next(outcomes)

    assert len(list(source_of([job], lambda job: Lost(None)).frames())) == 2


def test_closing_ends_the_wait():
    source = source_of(cut(JOB, range(10), 2, 0), lambda job: Done(None, polls=10**9))
    source.close()
    assert list(source.frames()) == []


def test_remarks_of_all_blocks_are_said_once_and_others_with_their_frames():
    jobs = cut(JOB, range(8), 2, 0)
    remarks = [("too dark",), ("too dark", "full"), ("too dark", "full"), ("too dark",)]
    assert said_of(list(zip(jobs, remarks, strict=True)), 4) == ["too dark", "frames 2 to 5: full"]


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("streamtrack.offline.jobs.__version__", "9")
    with pytest.raises(Exception, match=r"the worker has streamtrack 9, not .*: install the same everywhere"):
        search(JOB)


def test_what_is_kept_of_a_frame_without_pixels_is_small():
    job = Job(
        {"kind": "sim", "scenario": "vesicle", "frames": 4, "size": 64}, {"kind": "denodet", "threads": 1}, Path()
    )
    block = search(job)
    assert block.pixels is None
    assert block.frames[:, 0].tolist() == [0, 1, 2, 3]
    assert len(block.table) == block.frames[:, 1].sum()
