"""`telemetry`, and `python -m services.ops`."""

import sys

from services.runtime.outlet import hold_standard
from services.runtime.screen import prepare, remark

_EXTRA = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        import typer  # noqa: PLC0415 - a bare install lacks the libraries for people

        from services.ops.app import app  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        remark(f"telemetry needs {error.name}: pip install 'telemetry-pipeline[ops]'")
        sys.exit(2)
    hold_standard()
    prepare()
    # Not by calling the application: it would have tracebacks its own way.
    typer.main.get_command(app)(prog_name="telemetry")


if __name__ == "__main__":
    main()
