"""XML that another program wrote, read without a tree of the whole file, and without what could fill any memory."""

from pathlib import Path
from xml.parsers import expat

from streamtrack.errors import ConfigError

_HEAD_BYTES = 65_536


def new_parser(path: Path) -> expat.XMLParserType:
    """Return a parser that raises ConfigError on a DOCTYPE: entities can fill any memory, and no tracker has one."""

    def refuse(*_: object) -> None:
        raise ConfigError(f"{path} has a DOCTYPE, which no file of tracks has; export it anew")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    return parser


def parse(path: Path, parser: expat.XMLParserType) -> None:
    """Parse a file; raises ConfigError where it is not whole."""
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ConfigError(f"{path} is not whole XML ({error}); export it anew") from error


def root_tag(path: Path) -> str:
    """Return the name of the outermost element, empty where the file does not begin with one."""
    tags: list[str] = []
    parser = new_parser(path)
    parser.StartElementHandler = lambda tag, attributes: tags.append(tag)
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        parser.Parse(head)
    except expat.ExpatError:
        pass  # whoever reads it says so
    return tags[0] if tags else ""
