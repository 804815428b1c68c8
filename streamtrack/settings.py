"""Settings of plug-ins, checked by the signature: types, choices and ranges stand there and nowhere else."""

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from streamtrack.config import validate

GIVEN = ("microscope", "config_folder", "head_bias")
"""Parameters of plug-ins that the run fills in, or the training."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]

T = TypeVar("T")


@cache
def settings_model(factory: Callable[..., Any]) -> type[BaseModel]:
    """Return the model whose fields are the keyword arguments of a plug-in."""
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name not in GIVEN
    }
    config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    model: type[BaseModel] = create_model("Settings", __config__=config, **fields)
    return model


def checks_settings(plugin: type[T]) -> type[T]:
    """Have the settings of a class checked where it is built in Python, too, as a run does: raises ConfigError."""
    cls: Any = plugin
    init, signature = cls.__init__, inspect.signature(cls)

    @wraps(init)
    def check_and_init(self: T, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs)
        settings = {name: value for name, value in given.arguments.items() if name not in GIVEN}
        model = validate(settings_model(cls), settings, type(self).__name__)
        given.arguments.update({name: getattr(model, name) for name in settings})
        init(self, *given.args, **given.kwargs)

    cls.__init__ = check_and_init
    return plugin
