"""The scripts that run on the server, and the pieces that they share."""

import re
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"^-- include: (.*)\n", re.MULTILINE)


def read_script(package: str, name: str) -> str:
    """Read a script; its lines `-- include: NAME.lua` become what stands in that file of the contract."""
    return _INCLUDE.sub(lambda found: _read("services.contract", found[1]), _read(package, name))


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
