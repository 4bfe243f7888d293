"""The scripts that run on the server, and the piece that two of them share."""

from importlib import resources


def read_script(package: str, name: str) -> str:
    """Read a script; its line `-- include: acknowledged.lua` becomes what stands in that file."""
    return _read(package, name).replace(
        "-- include: acknowledged.lua\n", _read("services.contract", "acknowledged.lua")
    )


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
