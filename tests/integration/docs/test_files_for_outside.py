"""What code hosts and citation managers read is as their schemas say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import streamtrack

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_a_file_is_as_its_schema_says(schema, files):
    found = sorted(map(str, ROOT.glob(files)))
    assert found
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*check, "--default-filetype", "yaml", *found], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_names_the_same_version_and_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert project["version"] == citation["version"] == streamtrack.__version__
    assert project["license"] == citation["license"]


def test_the_oldest_and_the_newest_python_that_are_promised_are_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    tried = re.findall(r"\b3\.\d\d\b(?=\")", (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert project["requires-python"] == f">={promised[0]}"
    assert {promised[0], promised[-1]} <= set(tried) <= set(promised)
