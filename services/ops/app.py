"""The commands by name, and what an error of theirs comes to."""

import io
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from services import __version__
from services.ops.failures import failure_of
from services.ops.lazy import bare_app, register
from services.runtime.screen import answer, drop_answer, escaped, remark

COMMANDS: Final = {
    "run": (
        "services.ops.run.command:run_command",
        "Run the whole pipeline here: producer, consumers, audit.",
    ),
    "inspect": (
        "services.ops.inspect.command:inspect_command",
        "Show what a file is, and a mapping that reads it.",
    ),
    "publish": (
        "services.ops.publish:publish_command",
        "Publish one event, or JSON lines from standard input.",
    ),
    "status": (
        "services.ops.status.command:status_command",
        "Show stream, groups, sink, dead letters and runs.",
    ),
    "audit": ("services.ops.audit.command:audit_command", "Prove that no published event is missing."),
    "events": ("services.ops.data.command:events_command", "List stored events, the newest first."),
    "forget": ("services.ops.data.silent:forget_command", "Forget a silent device that was taken away."),
    "export": ("services.ops.export.command:export_command", "Write stored events as CSV or JSON lines."),
    "summary": ("services.ops.data.command:summary_command", "Count stored events by KPI and zone."),
    "groups": (
        "services.ops.groups:groups",
        "Show the consumer groups of the stream, or remove one.",
    ),
    "copy": (
        "services.ops.copy.command:copy_command",
        "Copy this store into another one, and compare the two.",
    ),
    "dlq": ("services.ops.dlq.command:dlq", "List, show, replay and purge dead letters."),
    "steps": ("services.ops.steps:steps", "Try your own steps on events."),
    "doctor": ("services.ops.doctor:doctor_command", "Check what a pipeline needs here, and say what to do."),
    "settings": (
        "services.ops.about.settings:settings_command",
        "Show every setting, and where its value came from.",
    ),
    "metrics": ("services.ops.about.metrics:metrics_command", "Show every metric, and what it means."),
    "messages": (
        "services.ops.about.messages:messages_command",
        "Show every log message, and what it means.",
    ),
}
"""Where each command is, and the line it has in the list of commands."""

_WrongUse: Final[type[Any]] = typer.BadParameter.__mro__[2]
"""ClickException: the base of all that is wrong with a command line."""

_PLAIN: Final = (
    ("Input should be a valid integer, unable to parse string as an integer", "write a whole number"),
    ("Input should be a valid number, unable to parse string as a number", "write a number"),
    ("Input should be greater than or equal to ", "write at least "),
    ("Input should be less than or equal to ", "write at most "),
)
"""What typer says of a wrong number, and what we say."""

_EPILOG: Final = """\b
Exit codes:
  0  all is well
  1  it was done, and something is wrong: an event is missing, or a letter
     can't be read
  2  it could not be done: the command line or a setting is wrong, or the
     broker or store can't be used"""


class Commands(TyperGroup):
    """The commands; an expected error ends as one line on standard error, and never as a traceback."""

    def main(self, *arguments: Any, **more: Any) -> Any:
        """Run the command line; what is wrong with it is said by us, since it may hold anything."""
        if not more.pop("standalone_mode", True):
            return super().main(*arguments, **more | {"standalone_mode": False})
        try:
            code = super().main(*arguments, **more | {"standalone_mode": False})
        except _WrongUse as error:
            error.message = escaped(_in_plain_words(error.message))
            text = io.StringIO()
            error.show(text)
            remark(*text.getvalue().rstrip("\n").split("\n"))
            sys.exit(error.exit_code)
        except typer.Abort:
            remark("Aborted!")
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            result = super().invoke(ctx)
            answer(flush=True)  # the disk may be full
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            if failure.is_of_output:
                drop_answer()
            remark(failure.message, *failure.details)
            raise typer.Exit(failure.exit_code) from None
        return result


def _in_plain_words(message: str) -> str:
    for theirs, ours in _PLAIN:
        message = message.replace(theirs, ours)
    return message


def _show_version(asked: bool) -> None:
    if not asked:
        return
    answer(f"telemetry {__version__}")
    raise typer.Exit


app: Final = bare_app(cls=Commands, epilog=_EPILOG, completes=True)


@app.callback(invoke_without_command=True)
def telemetry(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Sensor events from a Redis Stream into SQLite or PostgreSQL, with a proof that none is missing."""
    if context.invoked_subcommand is None:
        answer(*context.get_help().split("\n"))


for _name, (_target, _line) in COMMANDS.items():
    register(app, _name, _target, _line)
