"""What ``mkdocs build`` does besides: files that pages link to come into the site, nothing else does."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

OUTWARD = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
"""A page may link to other sites; it may load nothing from them."""


def on_files(files: Files, config: Any) -> Files:
    """Add the files of the repository that pages link to, so that pages read the same there and here."""
    for page in list(files.documentation_pages()):
        for _, target in _outward(page.src_uri, page.content_string, config):
            name = _name(target, config)
            if files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point such links at the copies."""
    up = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)
    for link, target in _outward(page.file.src_uri, markdown, config):
        markdown = markdown.replace(f"]({link}", f"]({up}{_name(target, config)}")
    return markdown


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that loads anything from another site."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[1]}: put it into the site, or leave it out")
    return output


def _outward(page: str, markdown: str, config: Any) -> Iterator[tuple[str, Path]]:
    """Yield links of a page that leave ``docs``; those that lead nowhere are left for mkdocs to complain about."""
    docs = Path(config.docs_dir)
    for link in dict.fromkeys(OUTWARD.findall(markdown)):
        target = (docs / page).parent.joinpath(link).resolve()
        if target.is_file() and not target.is_relative_to(docs):
            yield link, target


def _name(target: Path, config: Any) -> str:
    return f"repository/{target.relative_to(Path(config.docs_dir).parent).as_posix()}"
