"""Commands whose module is imported when they are called, and not before.

`telemetry settings` needs no client library, and importing one takes longer than the command itself.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


def bare_app(*, completes: bool = False, **options: Any) -> typer.Typer:
    """Make a typer application in the one style of ours: plain help, plain errors.

    `completes`: it has the options that make a shell complete its words.
    """
    return typer.Typer(
        add_completion=completes,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def register(app: typer.Typer, name: str, target: str, line: str) -> None:
    """Add a command that becomes the one at `module:name` when it is called.

    `line` is what the list of commands says of it.
    """
    app.command(name, help=line, cls=_lazy(target))(lambda: None)


def load(target: str) -> Any:
    """Import what stands at `module:name`, a function or a typer application, as a command."""
    module, _, name = target.partition(":")
    found: typer.Typer | Callable[..., Any] = getattr(import_module(module), name)
    if not isinstance(found, typer.Typer):
        function, found = found, bare_app()
        found.command()(function)
    return typer.main.get_command(found)


def _lazy(target: str) -> type[TyperCommand]:
    class Lazy(TyperCommand):
        def make_context(self, *arguments: Any, **extra: Any) -> Any:
            return load(target).make_context(*arguments, **extra)

    return Lazy
