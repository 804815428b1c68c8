import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = (ROOT / "streamtrack", ROOT / "drivers" / "streamtrack_drivers", ROOT / "engines" / "streamtrack_engines")
SOURCES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]


def test_no_two_public_classes_share_a_name():
    places = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_what_is_to_be_typed_is_quoted_as_cmd_and_powershell_take_it():
    texts = [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert [path for path in texts if "'streamtrack[" in path.read_text(encoding="utf-8")] == []


def test_extras_are_installed_from_the_clone_as_nobody_owns_the_name_elsewhere():
    texts = [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert [path for path in texts if 'install "streamtrack' in path.read_text(encoding="utf-8")] == []
