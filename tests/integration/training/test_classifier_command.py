"""``streamtrack train`` with the recipe of a classifier, on the digits that come with scikit-learn."""

import csv

import imagecodecs
import numpy as np
import pytest
from sklearn.datasets import load_digits
from trainings import run

from streamtrack_engines.classify.file import open_classifier

RECIPE = """
epochs = {epochs}
seed = 4
batch_size = 32
[network]
kind = "patch_cnn"
patch_px = 16
widths = [16, 32, 64]
convs = 2
[data]
kind = "folder"
path = "digits"
resize = true
[augmentation]
rotation_deg = 10
shift = 0.1
shear = 0.1
zoom = 0.1
flip = false
"""


@pytest.fixture
def digits(tmp_path):
    """Write the 1,797 digits, 8x8 px, into one folder for each."""
    images, labels = load_digits(return_X_y=True)
    for digit in range(10):
        (tmp_path / "digits" / str(digit)).mkdir(parents=True)
    for k, (image, digit) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True)):
        path = tmp_path / "digits" / str(digit) / f"{k}.png"
        path.write_bytes(imagecodecs.png_encode((image * 15).astype(np.uint8)))
    return tmp_path


@pytest.mark.parametrize(("epochs", "least"), [(4, 0.95), pytest.param(40, 0.99, marks=pytest.mark.slow)])
def test_digits_are_told_apart(digits, epochs, least):
    (digits / "recipe.toml").write_text(RECIPE.format(epochs=epochs), encoding="utf-8")
    said = run(digits / "recipe.toml", "--out", digits / "out")
    assert said.exit_code == 0, said.output
    with (digits / "out" / "confusion.csv").open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    confusion = np.array([row[1:] for row in rows], int)
    assert names[1:] == [row[0] for row in rows] == list("0123456789")
    assert confusion.sum() == round(1797 / 4)
    assert confusion.trace() / confusion.sum() >= least, confusion
    _, metadata = open_classifier(str(digits / "out" / "classifier.onnx"))
    assert metadata.accuracy == confusion.trace() / confusion.sum()


def test_mistakes_are_one_line(digits):
    recipe = digits / "recipe.toml"
    recipe.write_text(RECIPE.format(epochs=1).replace("digits", "nowhere"), encoding="utf-8")
    assert "one folder for each of two classes" in str(run(recipe, "--out", digits / "out").exception)
    assert not (digits / "out").exists()
    recipe.write_text(RECIPE.format(epochs=0), encoding="utf-8")
    assert "epochs" in str(run(recipe, "--out", digits / "out").exception)
    (digits / "taken").mkdir()
    (digits / "taken" / "confusion.csv").write_text("of last week", encoding="utf-8")
    recipe.write_text(RECIPE.format(epochs=1), encoding="utf-8")
    assert "already holds a classifier" in str(run(recipe, "--out", digits / "taken").exception)
    assert "in one go" in str(run(recipe, "--out", digits / "out", "--resume").exception)
    assert not (digits / "out" / "classifier.onnx").exists()
