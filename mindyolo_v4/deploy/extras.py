"""Libraries that only some users need: they are extras of the package."""

from importlib import import_module
from types import ModuleType

from mindyolo_v4.errors import UserError


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an extra. Raises UserError with the extra where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        command = f"pip install 'mindyolo_v4[{extra}]'"
        raise UserError(library, "is not installed", expected=command) from error
