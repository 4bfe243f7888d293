"""`make bench`: measure, show, write the report.

Exit codes: 0 measured (whether the goals are met is in the report); 1 something is broken; 2 the command
line is wrong, or a library is missing.
"""

import shlex
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bench import cases, record
from bench.bench import Bench
from bench.broker import find_mosquitto
from bench.machine import machine, versions
from bench.picture import draw
from bench.plan import BenchFailed, full_plan, smoke_plan
from bench.postgres.server import version
from bench.report import Report, goals_line, to_lines, to_markdown
from bench.server import choose_server, serving

_PAGE: Final = Path("docs/benchmarks.md")


def bench_command(
    events: Annotated[
        int, typer.Option(min=1000, help="Entries of the preloaded stream, and rows of a copy.")
    ] = 300_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each case that has rounds.")] = 5,
    long_rows: Annotated[
        int, typer.Option(min=200_000, help="Rows to which the table grows in the case growth.")
    ] = 5_000_000,
    only: Annotated[
        str, typer.Option(metavar="A,B", help=f"Some cases only: {', '.join(cases.NAMES)}.")
    ] = "",
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Tiny sizes, one round: shows that nothing is broken.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"Page to write, with its picture and its record beside it. Default: {_PAGE}; none with "
            "--smoke or --only. What --only leaves out stays on it, with its date."
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for all figures as JSON.")] = None,
    server: Annotated[
        Path | None, typer.Option(help="Program of the server: redis-server or valkey-server.")
    ] = None,
) -> None:
    """Measure the pipeline, and write the report. Takes half an hour, and wants a quiet machine."""
    chosen = cases.choose(only)
    page = output if output is not None or smoke or only else _PAGE
    earlier = record.read(page.with_suffix(".json")) if page is not None and only and not smoke else []
    _require(chosen, picture=page is not None)
    program = choose_server(server)
    postgres = version(
        is_needed=any(one in {"copy", "retention"} or one.startswith("postgres") for one in chosen)
    )
    plan = smoke_plan() if smoke else full_plan(events, rounds, long_rows)
    described = machine()
    with (
        _ended_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="telemetry-bench-") as folder,
        serving(program, Path(folder)) as running,
    ):
        typer.echo(f"{running.version}, {plan.events:,} events, {plan.rounds} rounds")
        figures = cases.measure(Bench(running, plan, typer.echo), chosen)
    report = Report(
        _as_typed(),
        f"{datetime.now(UTC):%Y-%m-%d}",
        plan.sizes,
        described,
        versions(running.version, postgres),
        figures,
    )
    typer.echo("\n" + "\n".join(to_lines(figures)) + "\n")
    typer.echo(
        "smoke: every event was settled; so few say nothing of speed" if smoke else goals_line(figures)
    )
    if json_file is not None:
        json_file.write_text(record.to_json([report]) + "\n", encoding="utf-8")
        typer.echo(f"written: {json_file}")
    if page is not None:
        _write(record.merged(earlier, report), page)


def _require(chosen: Collection[str], *, picture: bool) -> None:
    """Refuse to begin what can't be ended: a missing library shows before the first round."""
    peers = {"faststream", "postgres-consumer"}
    needed = [
        ("faststream", not peers.isdisjoint(chosen)),
        ("fastapi", "http" in chosen),
        ("paho", "mqtt" in chosen),
        ("matplotlib", picture),
    ]
    missing = [name for name, is_needed in needed if is_needed and find_spec(name) is None]
    if missing:
        raise BenchFailed(
            f"make bench needs {' and '.join(missing)}: pip install 'telemetry-pipeline[bench]'",
            exit_code=2,
        )
    if "mqtt" in chosen and find_mosquitto() is None:
        raise BenchFailed(
            "make bench needs a Mosquitto for the case mqtt: apt-get install mosquitto; --only names others",
            exit_code=2,
        )


def _write(runs: Sequence[Report], page: Path) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_suffix(".svg")
    picture.write_bytes(draw([one for run in runs for one in run.figures]))
    page.write_text(to_markdown(runs, picture.name), encoding="utf-8")
    page.with_suffix(".json").write_text(record.to_json(runs) + "\n", encoding="utf-8")
    typer.echo(f"written: {page}, with its picture and its record")


def _as_typed() -> str:
    return "make bench" + (f' ARGS="{shlex.join(sys.argv[1:])}"' if sys.argv[1:] else "")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, so that no server or consumer outlives us."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
