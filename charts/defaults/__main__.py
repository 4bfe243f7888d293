"""Writes the chart's files/defaults.yaml: what a key has that is left empty. `make chart-docs` runs it.

A template can't read values.yaml, and Helm takes a key out that is null. It runs in the repository
(`python -m charts.defaults`).
"""

from pathlib import Path
from typing import Any, Final

import yaml

_CHART: Final = Path("charts/telemetry-pipeline")

_HEAD: Final = "# The values that an empty key has; made from values.yaml by `make chart-docs`.\n"


def defaults(chart: Path) -> dict[str, Any]:
    """Give the default values of a chart and of its Redis, but for those that are null."""
    values = _read(chart / "values.yaml")
    values["redis"] = _merged(_read(chart / "charts" / "redis" / "values.yaml"), values["redis"])
    return _told(values)


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _merged(below[key], above[key])
    return both


def _told(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _told(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


class _Plain(yaml.SafeDumper):
    """Writes each value where it stands, and not once with references to it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - it is asked of each
        return True


def page(chart: Path) -> str:
    """Write the file."""
    return _HEAD + yaml.dump(defaults(chart), Dumper=_Plain, sort_keys=False, width=110)


if __name__ == "__main__":
    (_CHART / "files" / "defaults.yaml").write_text(page(_CHART), encoding="utf-8")
