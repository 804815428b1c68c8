"""What was measured of a movie, and crops of it beside simulated ones, as one page that loads nothing."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from streamtrack.sinks.contrast import stretch
from streamtrack.sinks.page.charts import Series, chart
from streamtrack.sinks.page.html import POLICY, STYLE
from streamtrack_engines.likeness.camera import Estimate
from streamtrack_engines.likeness.measure import MovieMeasures

PAGE = "likeness.html"
CROP_PX = 96
_PAIRS = 4
_ENLARGED = 3

Images = Sequence[NDArray[np.float32]]


def page_of(measures: MovieMeasures, simulated: Images, remarks: Sequence[str]) -> str:
    """Return the page.

    Parameters
    ----------
    measures
        Of the movie.
    simulated
        Frames (S, S), counts, by the recipe.
    remarks
        Lines to be said of the training; empty before it.
    """
    title = f"A simulation like {escape(measures.name)}"
    sections = {
        "Real and simulated, at the same contrast": _pairs(measures, simulated),
        "What was measured": _facts(measures) + _unknown(measures),
        "Pixels": _pixels(measures, simulated),
    }
    if remarks:
        sections["Training"] = "".join(f"<p>{escape(line.strip())}</p>" for line in remarks)
    body = "".join(f"<section><h2>{name}</h2><div>{each}</div></section>" for name, each in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} - streamtrack</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><header><h1>{title}</h1></header><main>{body}</main></body></html>\n"
    )


def _pairs(measures: MovieMeasures, simulated: Images) -> str:
    """Return crops of the movie, and below them simulated ones."""
    real = _real_crops(measures)
    low, high = stretch(np.stack(real))
    rows = [("real", each) for each in real] + [("simulated", each[:CROP_PX, :CROP_PX]) for each in simulated[:_PAIRS]]
    figures = "".join(
        f'<figure><figcaption>{name}</figcaption><img class="picture" alt="{name} crop" src="{_uri(image, low, high)}">'
        "</figure>"
        for name, image in rows
    )
    note = f"<p>{CROP_PX} x {CROP_PX} px each; black is {low:.4g} counts, white {high:.4g}, in all of them.</p>"
    return f'<div class="wide pictures" style="display: grid; gap: 1rem;">{figures}</div>{note}'


def _real_crops(measures: MovieMeasures) -> list[NDArray[np.float32]]:
    """Return crops from other frames and other places, those with particles first."""
    frames, height, width = measures.counts.shape
    rng = np.random.default_rng(0)
    crops = []
    for number in range(_PAIRS):
        top, left = (int(rng.integers(max(1, size - CROP_PX + 1))) for size in (height, width))
        frame = measures.counts[number * (frames - 1) // max(1, _PAIRS - 1)]
        crops.append(frame[top : top + CROP_PX, left : left + CROP_PX].astype(np.float32))
    return crops


def _facts(measures: MovieMeasures) -> str:
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts_of(measures))
    return f'<dl class="facts">{facts}</dl>'


def facts_of(measures: MovieMeasures) -> list[tuple[str, str]]:
    """Return names and values of all that was measured, with standard errors."""
    camera, light, particles = measures.camera, measures.light, measures.particles
    facts = [
        ("gain, counts per electron", _said(camera.gain)),
        ("offset, counts", _said(camera.offset_counts)),
        ("read noise, electrons", _said(camera.read_noise_e)),
        ("sensor", "EMCCD" if camera.electron_multiplying else "no electron multiplication seen"),
        ("background, counts", f"{light.mean:.4g}"),
        ("rises to one side by", f"{light.steepest:.0%}"),
        ("brightest over darkest besides", f"{light.contrast:.2f}"),
        ("sigma of a spot, px", _said(particles.sigma_px)),
        ("particles in 512 x 512 px", f"{particles.density:.3g}"),
    ]
    if light.stripe_px is not None:
        facts.append(("stripes", f"of {light.stripe_px:.3g} px, {light.stripe_contrast:.2f} times as bright"))
    if measures.snr is not None:
        facts.append(("SNR, 5 to 95 %", f"{measures.snr[0]:.2g} to {measures.snr[-1]:.2g}"))
    if particles.amplitude_log_sd is not None:
        facts.append(("spread of the brightness", f"{particles.amplitude_log_sd:.0%}"))
    if particles.step_px is not None:
        facts.append(("steps, px per axis and frame", "{:.2g} to {:.2g}".format(*particles.step_px)))
    if particles.speed_px is not None:
        facts.append(("straight on, px per frame", "{:.2g} to {:.2g}".format(*particles.speed_px)))
    return facts


def _said(measured: Estimate | None) -> str:
    return "not measured" if measured is None else f"{measured.value:.4g} ± {measured.error:.2g}"


def unknown(measures: MovieMeasures) -> list[str]:
    """Return a line for each thing that could not be measured."""
    lines = [f"{name}: not measured; {why}" for name, why in measures.camera.reasons.items()]
    if measures.particles.sigma_px is None:
        lines.append("width and brightness of spots: not measured; too few clear ones stand alone")
    if measures.particles.step_px is None and measures.particles.speed_px is None:
        lines.append("steps: not measured; no track is long enough")
    return lines


def _unknown(measures: MovieMeasures) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in unknown(measures))


def _pixels(measures: MovieMeasures, simulated: Images) -> str:
    """Return the distribution of the counts in both."""
    real = measures.counts[:: max(1, len(measures.counts) // 8)].ravel()
    made = np.concatenate([each.ravel() for each in simulated])
    low, high = np.quantile(np.concatenate([real[:100_000], made[:100_000]]), (0.001, 0.999)).tolist()
    edges = np.linspace(low, high, 60)
    middle = (edges[1:] + edges[:-1]) / 2
    lines = [
        Series(middle, np.histogram(each, edges, density=True)[0], name)
        for each, name in ((real, "real"), (made, "simulated"))
    ]
    return chart(
        "Counts", lines, "counts", "share of the pixels", note="of all crops, which vary more than one movie does"
    )


def _uri(image: NDArray[np.float32], low: float, high: float) -> str:
    grey = (255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    large: Any = Image.fromarray(np.repeat(np.repeat(grey, _ENLARGED, 0), _ENLARGED, 1))
    data = BytesIO()
    large.save(data, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
