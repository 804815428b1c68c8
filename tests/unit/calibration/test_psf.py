"""The curve of an astigmatic lens, measured in a stack of beads, and the command that does it."""

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from streamtrack.calibration.psf import find_beads, measure_psf
from streamtrack.cli import make_app
from streamtrack.errors import ConfigError
from streamtrack.psf import STANDARD, AstigmaticPsf, Defocus, read_psf
from streamtrack.simulation.astigmatic import bead_stack

PLANES_UM = np.arange(-0.9, 0.901, 0.06)
REAL = AstigmaticPsf(
    range_um=(-0.8, 0.8),
    y=Defocus(sigma_px=1.2, focus_um=-0.2, depth_um=0.5, third=0.2, fourth=0.05),
    x=Defocus(sigma_px=1.4, focus_um=0.3, depth_um=0.45, third=-0.1),
)
"""A lens the other way round, and with more than the usual terms."""
WIDER = STANDARD.y.model_copy(update={"sigma_px": 1.5})
"""Without a lens both axes are in focus together."""


def stack_of(psf, planes_um=PLANES_UM, **said):
    return bead_stack(np.random.default_rng(3), planes_um, psf=psf, **said)


@pytest.mark.parametrize("psf", [STANDARD, REAL])
def test_the_curve_is_that_of_the_lens(psf):
    found = measure_psf(stack_of(psf), 0.06)
    crossing = np.linspace(-0.2, 0.2, 4001)
    zero = crossing[np.abs(psf.y.width_px(crossing) - psf.x.width_px(crossing)).argmin()]
    heights = np.linspace(-0.6, 0.6, 50)
    for axis in ("y", "x"):
        wanted = getattr(psf, axis).width_px(heights + zero)
        np.testing.assert_allclose(getattr(found.psf, axis).width_px(heights), wanted, rtol=0.04)
    assert found.seen == len(found.z_um) == 12
    assert found.residual < 0.03
    assert found.psf.range_um[0] < -0.6
    assert found.psf.range_um[1] > 0.6


def test_a_stack_that_was_taken_the_other_way_says_the_same():
    one, other = measure_psf(stack_of(STANDARD), 0.06).psf, measure_psf(stack_of(STANDARD)[::-1], -0.06).psf
    np.testing.assert_allclose(one.table(), other.table(), atol=0.01)


def test_only_beads_that_are_alone_and_whole_are_taken():
    stack = stack_of(STANDARD).astype(float)
    places = find_beads(stack)
    y, x = places[0].astype(int)
    stack[:, y - 4 : y + 5, x + 8 : x + 17] += 0.6 * stack[:, y - 4 : y + 5, x - 4 : x + 5]
    assert len(find_beads(stack)) == len(places) - 1
    assert len(find_beads(stack[:, int(places[:, 0].min()) - 5 :])) < len(places)


@pytest.mark.parametrize(
    ("stack", "cure"),
    [
        (lambda: stack_of(STANDARD)[:5], "5 planes"),
        (lambda: np.random.default_rng(0).poisson(10, (20, 96, 96)).astype(np.uint16), "no bead"),
        (lambda: stack_of(REAL, PLANES_UM + 1.5), "through the focus"),
        (lambda: stack_of(STANDARD.model_copy(update={"x": WIDER})), "is the cylindrical lens in"),
    ],
)
def test_a_stack_that_is_of_no_use_is_refused_with_the_cure(stack, cure):
    with pytest.raises(ConfigError, match=cure):
        measure_psf(stack(), 0.06)


def test_the_command_writes_what_the_engine_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.save_array("beads.zarr", stack_of(STANDARD))
    command = ["calibrate", "psf", "beads.zarr"]
    run = CliRunner().invoke(make_app(), [*command, "--step-um", "0.06"])
    assert run.exit_code == 0, run.output
    assert "12 of 12 beads" in run.output
    assert (tmp_path / "psf.png").stat().st_size > 5000
    psf = read_psf(tmp_path / "psf.toml")
    assert psf.y.focus_um == pytest.approx(0.25, abs=0.01)
    for said, cure in (([], "--step-um"), (["--step-um", "0.06"], "is there already")):
        out = ["--out", "other.toml"] if not said else []
        refused = CliRunner().invoke(make_app(), [*command, *said, *out])
        assert cure in str(refused.exception)
    (tmp_path / "psf.toml").write_text('kind = "another"', encoding="utf-8")
    with pytest.raises(ConfigError, match="calibrate psf"):
        read_psf(tmp_path / "psf.toml")
