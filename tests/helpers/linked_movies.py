"""Movies of detections through the linker ``imm``, and how many links are right."""

from streamtrack.linking.imm import ImmLinker

SHAPE = (512, 512)


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
