"""Movies of detections through the linker ``imm``, and how many links are right."""

from dataclasses import replace

import numpy as np

from streamtrack.linking.imm import ImmLinker
from streamtrack.testing.linkers import detections_at

SHAPE = (512, 512)
DIVIDING_FRAMES, DIVISION = 30, 12


def prepared(**settings):
    linker = ImmLinker(**settings)
    linker.prepare(SHAPE)
    return linker


def link(linker, movie, first=0):
    """Link a movie; return the tracks of each frame's detections, revisions included."""
    ids = []
    for index, (detections, _) in enumerate(movie, first):
        update = linker.update(detections, index, float(index))
        ids.append(update.particle.copy())
        for frame, place, particle in zip(
            update.revised.frame_index, update.revised.detection, update.revised.particle, strict=True
        ):
            ids[frame - first][place] = particle
    return ids


def links(ids_by_frame, longest_gap=4):
    """Pairs of detections that follow each other in a track, each as ((frame, place), (frame, place))."""
    last, found = {}, set()
    for frame, ids in enumerate(ids_by_frame):
        for place, identity in enumerate(ids.tolist()):
            if identity >= 0:
                if identity in last and frame - last[identity][0] <= longest_gap:
                    found.add((last[identity], (frame, place)))
                last[identity] = (frame, place)
    return found


def accuracy(found, movie):
    """Share of the links that are in both truth and result (Jaccard): 1 is perfect."""
    true, found = links([identity for _, identity in movie]), links(found)
    return len(true & found) / len(true | found)


def dividing(apart_px=8.0, n_dividing=4, seed=3, *, both_new=False):
    """Yield detections of 16 particles 60 px apart; of some the halves go apart from frame 12 on, of half the mass.

    With ``both_new`` no half is where the particle would be; otherwise the one is much nearer to that.
    """
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(60, 300, 60.0), np.arange(60, 300, 60.0)), axis=-1).reshape(-1, 2)
    way = rng.normal(size=(n_dividing, 2))
    way *= apart_px / np.linalg.norm(way, axis=1, keepdims=True)
    for t in range(DIVIDING_FRAMES):
        place = place + rng.normal(0, 0.5, place.shape)
        halves = place[:n_dividing] + (1.0 if both_new else 0.5) * way * (1 + 0.05 * (t - DIVISION))
        others = place[:n_dividing] - (1.0 if both_new else 0.5) * way * (1 + 0.05 * (t - DIVISION))
        yx = place if t < DIVISION else np.concatenate((halves, others, place[n_dividing:]))
        mass = np.full(len(yx), 100.0, np.float32)
        mass[: 2 * (len(yx) - len(place))] = 50.0
        yield replace(detections_at(yx + rng.normal(0, 0.2, yx.shape)), mass=mass)
