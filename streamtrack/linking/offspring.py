"""Which tracks of a whole movie came out of which: once they are linked, they are gone through for divisions."""

import numpy as np

from streamtrack.linking.divisions import Divisions, divided
from streamtrack.linking.records import NONE, Indices
from streamtrack.linking.sweeps import Scene, Sweep

LOOK_BACK = 2
"""Frames after which it is decided, as online."""


def cut_divisions(scene: Scene, following: Indices) -> tuple[Indices, Indices]:
    """Find the particles that divide, and let their tracks end there.

    Parameters
    ----------
    following
        Shape (R,): which detection follows on each, -1 for none.

    Returns
    -------
    The same without what follows on a particle that divides; and, shape (R,), of the first detection of each of the two
    the last one of that particle, otherwise -1.
    """
    sweep, learnt = Sweep(scene, following, LOOK_BACK + 2), Divisions()
    tracks, last = sweep.tracks, np.full(len(following), NONE)
    previous, linked = np.full(len(following), NONE), np.flatnonzero(following != NONE)
    previous[following[linked]] = linked
    for update in range(len(scene.frames)):
        sweep.predict(update)
        sweep.go_on(update)
        then = update - LOOK_BACK
        if then < 1:
            continue
        density = max(len(tracks.live), 1) / (scene.shape[0] * scene.shape[1])
        found = divided(
            *(tracks.states, tracks.frames, tracks.measured, tracks.live, tracks.born),
            *(then, update, scene.shape, *learnt.expected(density)),
        )
        place = tracks.states[:, then % tracks.depth]
        for old, other, young in found.tolist():
            two = scene.first[then] + place["detection"][[other, young]]
            last[two] = previous[two[0]] if other == old else sweep.head[old]
            tracks.divide(old, other, young, then)
        apart = place["last"][found[:, 1:], :2]
        learnt.learn(apart[:, 1] - apart[:, 0], len(tracks.live), density)
    following = following.copy()
    following[last[last != NONE]] = NONE
    return following, last
