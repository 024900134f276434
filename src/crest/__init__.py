"""A small safety classifier for text in 100 languages: offline, on a CPU, without torch."""

from typing import TYPE_CHECKING, Any

from crest.errors import CrestError
from crest.types import Verdict

if TYPE_CHECKING:
    from crest.guard import Guard

__version__ = "0.1.0"

__all__ = ["CrestError", "Guard", "Verdict", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Guard`, with numpy, when it is first asked for: `import crest` and `crest --version` need neither."""
    if name != "Guard":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crest.guard import Guard  # noqa: PLC0415

    return Guard
