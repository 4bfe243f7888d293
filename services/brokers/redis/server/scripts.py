"""The texts of the scripts that run on the server, and the pieces that they share."""

import re
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"^-- include: (.*)\n", re.MULTILINE)


def read_script(name: str) -> str:
    """Read a script; its lines `-- include: NAME.lua` become what stands in that file beside it."""
    return _INCLUDE.sub(lambda found: _read(found[1]), _read(name))


def _read(name: str) -> str:
    return resources.files("services.brokers.redis.lua").joinpath(name).read_text(encoding="utf-8")
