"""`telemetry`, and `python -m services.ops`."""

import sys

_EXTRA = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        from services.ops.app import app  # noqa: PLC0415 - a bare install lacks the libraries for people
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        print(f"telemetry needs {error.name}: pip install 'telemetry-pipeline[ops]'", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a degree sign gets it spelled out, not an error.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="telemetry")


if __name__ == "__main__":
    main()
