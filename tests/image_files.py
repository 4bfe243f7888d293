"""What of `services` an image has to hold: every module that its service can import, and no other.

It is worked out from the imports, and not from the folders that a Dockerfile copies.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grimp

ROOT: Final = Path(__file__).parents[1]

OWN: Final = {"producer": ("producer",), "consumer": ("consumer", "ops", "stores")}
"""The folders of a service's own: each is in its image whole, but for BESIDE."""
BESIDE: Final = {"producer": (), "consumer": ("ops.inspect", "ops.publish")}
"""What works beside the other service alone, and is left out where that is not."""
SIDES: Final = {"producer": ("producing",), "consumer": ("consuming", "operating")}
"""The rooms of a broker that it chooses by name when it starts, which no import tells."""


def modules_of(service: str) -> set[str]:
    """Give the modules that a service, with its commands, can import: at its start or later.

    `telemetry run` starts a producer where there is one; so what the other service has is not followed.
    """
    graph = grimp.build_graph("services", exclude_type_checking_imports=True, cache_dir=None)
    for other in (*(OWN.keys() - {service}), *BESIDE[service]):
        for module in _below(graph.modules, other):
            graph.remove_module(module)
    roots = {module for own in OWN[service] for module in _below(graph.modules, own)}
    roots |= {
        f"{room}.{side}.side"
        for room in graph.find_children("services.brokers")
        for side in SIDES[service]
        if f"{room}.{side}.side" in graph.modules
    }
    found = roots.union(*(graph.find_upstream_modules(root) for root in roots))
    return found | {parent for module in found for parent in _parents(module)}


def files_of(service: str) -> set[str]:
    """Give the files that an image has to hold, as paths in `services`: its modules, and what lies beside."""
    services = ROOT / "services"
    modules = modules_of(service)
    held = {path for path in services.rglob("*.py") if _module(path) in modules}
    for folder in {path.parent for path in held} - {services}:
        held |= {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    return {str(path.relative_to(services)) for path in held}


def _below(modules: Iterable[str], folder: str) -> set[str]:
    """Give the modules of a folder of the services."""
    name = f"services.{folder}"
    return {module for module in modules if module == name or module.startswith(f"{name}.")}


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts))]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
