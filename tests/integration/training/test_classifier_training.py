"""Classifiers: images in class folders, or simulated particles, become a file that ONNX Runtime runs."""

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from streamtrack.errors import ConfigError, MeasureError
from streamtrack.simulation.kinds import KINDS, kind_patches
from streamtrack_engines.classify.command import to_onnx
from streamtrack_engines.classify.file import LOG_PROBABILITIES, PATCHES, open_classifier
from streamtrack_engines.classify.images import Folder, Labelled, middle, scaled
from streamtrack_engines.classify.networks import PatchCnn, TextCnn, moved, random_maps
from streamtrack_engines.classify.recipe import ClassifierRecipe
from streamtrack_engines.classify.training import train_classifier


def bars(n, size_px=12):
    """Return noisy images of a bright row or a bright column."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    patches = rng.normal(100, 10, (n, size_px, size_px)).astype(np.float32)
    for patch, label in zip(patches, labels, strict=True):
        (patch if label else patch.T)[size_px // 2] += 60
    return Labelled(patches, labels, ("column", "row"))


def recipe(kind="patch_cnn", **changes):
    network = {"kind": kind, "patch_px": 12, "widths": [4, 8]}
    still = {"rotation_deg": 0, "shift": 0.1, "shear": 0, "zoom": 0.1, "flip": True}
    known = {"epochs": 8, "batch_size": 16, "network": network, "data": {"kind": "kinds"}, "augmentation": still}
    return ClassifierRecipe.model_validate(known | changes)


def write_folders(folder, suffix):
    for name in ("dots", "lines"):
        (folder / name).mkdir(parents=True)
        for k in range(4):
            image = np.full((20, 30), 50 + k, np.uint8)
            path = folder / name / f"{k}{suffix}"
            if suffix == ".png":
                path.write_bytes(imagecodecs.png_encode(image))
            else:
                tifffile.imwrite(path, image.astype(np.uint16))
    (folder / "dots" / "notes.txt").write_text("not an image", encoding="utf-8")


@pytest.mark.parametrize("kind", ["patch_cnn", "text_cnn"])
def test_it_learns_and_its_file_says_what_torch_says(kind, tmp_path):
    trained = train_classifier(recipe(kind), bars(160))
    assert trained.accuracy > 0.9
    file = tmp_path / "bars.onnx"
    file.write_bytes(to_onnx(trained, recipe(kind), ("column", "row")))

    session, metadata = open_classifier(str(file), 1)
    assert (metadata.classes, metadata.patch_px) == (("column", "row"), 12)
    for n in (1, 7):
        patches = bars(n).patches
        (said,) = session.run([LOG_PROBABILITIES], {PATCHES: patches})
        with torch.inference_mode():
            np.testing.assert_allclose(said, trained.classifier(torch.from_numpy(patches)).numpy(), atol=1e-4)
        np.testing.assert_allclose(np.exp(said).sum(1), 1, rtol=1e-5)


def test_the_same_recipe_gives_the_same_classifier():
    one, other = (train_classifier(recipe(epochs=2), bars(60)) for _ in range(2))
    assert one.classifier.temperature == other.classifier.temperature
    np.testing.assert_array_equal(one.confusion, other.confusion)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_a_folder_of_class_folders_is_read(suffix, tmp_path):
    write_folders(tmp_path, suffix)
    images = Folder(kind="folder", path=tmp_path).read(16, 0)
    assert images.classes == ("dots", "lines")
    assert images.patches.shape == (8, 16, 16)
    assert images.patches[:, 0, 0].tolist() == [50, 51, 52, 53] * 2
    assert images.labels.tolist() == [0] * 4 + [1] * 4


def test_a_folder_without_enough_images_says_so(tmp_path):
    with pytest.raises(ConfigError, match="one folder for each of two classes"):
        Folder(kind="folder", path=tmp_path).read(16, 0)
    write_folders(tmp_path, ".png")
    (tmp_path / "lines" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"cannot read the image .*0\.png"):
        Folder(kind="folder", path=tmp_path).read(16, 0)


def test_a_class_that_is_held_out_as_a_whole_is_named():
    with pytest.raises(ConfigError, match=r"held_out = 0\.99 leaves no image of the class 'column' to learn from"):
        train_classifier(recipe(held_out=0.99), bars(8))


def test_images_of_other_sizes_are_scaled_or_their_middle_is_taken():
    image = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(middle(image, 2), [[8, 9], [14, 15]])
    assert middle(image, 8)[:, 0].tolist() == [0, 0, 0, 6, 12, 18, 18, 18]
    assert scaled(image, 8).shape == (8, 8)
    np.testing.assert_allclose(scaled(image, 8).mean(), image.mean())


def test_augmentation_stays_within_its_limits_and_may_do_nothing():
    patches = torch.from_numpy(bars(6).patches)
    np.testing.assert_allclose(moved(patches, random_maps(6, 0, 0, 0, 0, False)), patches, rtol=1e-4)
    maps = random_maps(500, 0, 0.1, 0, 0, True)
    assert maps[:, 0, 0].unique().tolist() == [-1, 1]
    assert maps[:, :, 2].abs().max() <= 0.2  # of [-1, 1]


def test_the_light_network_is_light_and_the_texts_has_the_texts_layers():
    assert sum(weight.numel() for weight in PatchCnn(5).parameters()) < 7000
    assert sum(weight.numel() for weight in TextCnn(10).parameters()) == 19_703_786
    assert PatchCnn(5)(torch.zeros(3, 21, 21)).shape == TextCnn(5)(torch.zeros(3, 50, 50)).shape == (3, 5)


def test_simulated_particles_come_in_equal_shares_and_again_the_same():
    patches, kinds = kind_patches(np.random.default_rng(1), 50, 21, (4.0, 4.0), 2)
    again, _ = kind_patches(np.random.default_rng(1), 50, 21, (4.0, 4.0), 2)
    assert np.bincount(kinds).tolist() == [10] * len(KINDS)
    np.testing.assert_array_equal(patches, again)
    assert patches.min() >= 0


def test_what_is_no_classifier_is_one_line(tmp_path):
    for weights, line in (("none", "there is no classifier"), ("gone.onnx", "cannot read the classifier")):
        with pytest.raises(MeasureError, match=line):
            open_classifier(weights)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    with pytest.raises(MeasureError, match="damaged or no ONNX file"):
        open_classifier(str(bad))
    from streamtrack_engines.weights import read_weights

    bad.write_bytes(read_weights("denodet"))
    with pytest.raises(MeasureError, match="no classifier of streamtrack"):
        open_classifier(str(bad))
