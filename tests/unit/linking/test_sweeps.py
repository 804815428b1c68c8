import numpy as np
import pytest

from streamtrack.linking import relinking
from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.sweeps import Scene, links_of, reversed_links, sweep, tracks_of

SHAPE = (512, 512)


@pytest.fixture(scope="module")
def linked():
    """Four particles that run side by side, 5 px apart, 30 frames: the scene, and their true links."""
    frame = np.repeat(np.arange(30), 4)
    lane = np.tile(np.arange(4), 30)
    yx = np.stack([100.0 + 5.0 * lane, 20.0 + 12.0 * frame])
    columns = np.concatenate([yx, np.full((3, 120), [[0.98], [0.3], [0.0]])]).astype(np.float32)
    linker = ImmLinker()
    linker.prepare(SHAPE)
    relinking._run(linker, SHAPE, frame, columns)
    linker.begin_again()
    scene = relinking._run(linker, SHAPE, frame, columns)[1]
    return scene, links_of(lane)


def test_backwards_and_backwards_again_is_as_before(linked):
    scene, links = linked
    again = scene.backwards().backwards()
    assert (again.seen == scene.seen).all()
    assert (again.first == scene.first).all()
    for name in scene.frames.dtype.names:
        np.testing.assert_array_equal(again.frames[name], scene.frames[name])
    np.testing.assert_array_equal(reversed_links(reversed_links(links)), links)


def test_links_and_tracks_say_the_same(linked):
    _, links = linked
    np.testing.assert_array_equal(tracks_of(links), np.tile(np.arange(4), 30))


def test_what_is_right_is_left_alone(linked):
    scene, links = linked
    swept = sweep(scene, links)
    np.testing.assert_array_equal(swept.following, links)
    assert swept.log_likelihood == sweep(scene, links, decides=False).log_likelihood


@pytest.mark.parametrize("where", [0, 1, 60, 115], ids=["at the start", "beside it", "in the middle", "at the end"])
@pytest.mark.parametrize("wrong", ["broken", "exchanged"])
def test_what_is_wrong_is_mended(linked, where, wrong):
    scene, links = linked
    spoilt = links.copy()
    spoilt[where] = -1 if wrong == "broken" else links[where ^ 1]
    spoilt[where ^ 1] = links[where ^ 1] if wrong == "broken" else links[where]
    ahead = sweep(scene, spoilt)
    back = sweep(scene.backwards(), reversed_links(ahead.following))
    np.testing.assert_array_equal(reversed_links(back.following), links)
    assert ahead.log_likelihood > sweep(scene, spoilt, decides=False).log_likelihood


def test_a_detection_far_from_all_stays_alone(linked):
    scene, links = linked
    seen = np.insert(scene.seen, 60, (400.0, 400.0, *scene.seen[60, 2:]), axis=0)
    more = Scene(scene.shape, scene.frames, seen, scene.first + (scene.first > 60))
    apart = np.insert(links + (links >= 60), 60, -1)
    joined = apart.copy()
    joined[60] = apart[57 + 1]
    joined[58] = 60
    assert links_of(tracks_of(apart)).tolist() == apart.tolist()
    back = sweep(more.backwards(), reversed_links(sweep(more, joined).following))
    np.testing.assert_array_equal(reversed_links(back.following), apart)
