"""Bodies of messages, made of a text with fields in braces."""

import json
import string
from collections.abc import Mapping
from typing import Any

from streamtrack.errors import ConfigError

AWKWARD = 'a "quoted" \\ text\nof two lines'
"""A name that breaks JSON wherever it is not escaped."""


class Template:
    """A text in which ``{name}`` stands for the field of that name, and ``{{`` and ``}}`` for braces.

    Fields are names only: no attributes, no items, no formats. What begins with a brace is JSON, and what is filled in
    is escaped for it: a text has to stand between quotation marks there.

    Parameters
    ----------
    text
        The template.
    example
        Fields as `fill` is going to be given them; texts among them are tried with what needs to be escaped.

    Raises
    ------
    ConfigError
        A field is unknown, a brace is alone, or what it makes is not the JSON that it begins as.
    """

    def __init__(self, text: str, example: Mapping[str, Any]) -> None:
        try:
            self._parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"template: {error}: write {{{{ and }}}} for braces that are no field") from None
        for _, field, form, conversion in self._parts:
            if field is not None and (field not in example or form or conversion):
                written = f"{field}{'!' + conversion if conversion else ''}{':' + form if form else ''}"
                known = ", ".join(f"{{{name}}}" for name in example)
                cure = "braces of JSON are doubled, {{ and }}"
                raise ConfigError(f"template: {{{written}}} is no field (known: {known}; {cure})")
        self.is_json = "".join(part[0] for part in self._parts[:1]).lstrip().startswith("{")
        if self.is_json:
            self._try(example)

    def fill(self, fields: Mapping[str, Any]) -> str:
        """Return the text with the fields filled in; what there is not is ``null``."""
        return "".join(text + ("" if name is None else self._written(fields[name])) for text, name, _, _ in self._parts)

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            return json.dumps(value)[1:-1] if self.is_json else value
        return json.dumps(value)

    def _try(self, example: Mapping[str, Any]) -> None:
        awkward = {name: AWKWARD if isinstance(value, str) else value for name, value in example.items()}
        try:
            json.loads(self.fill(awkward))
        except ValueError as error:
            cure = "texts go between quotation marks, and braces of JSON are doubled"
            raise ConfigError(f"template: filled in it is not JSON ({error}): {cure}") from None
