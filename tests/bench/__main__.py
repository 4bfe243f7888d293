"""`make bench`: measure, show, write the report."""

import sys

import typer

from bench.command import bench_command
from services.ops.failures import CommandFailed
from services.ops.lazy import bare_app


def main() -> None:
    """Run the bench as the arguments say, and exit with its code."""
    app = bare_app()
    app.command()(bench_command)
    try:
        app(prog_name="make bench")
    except CommandFailed as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
