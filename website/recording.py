"""The recording of a terminal: `make recording` runs the commands below and draws docs/recording.svg.

They run in a terminal of 80 columns, in an empty folder with the examples in it. The picture lights up
line after line, or shows all at once to whoever wants no motion. It loads nothing: the font is the reader's.
"""

import argparse
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

_ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = _ROOT / "docs" / "recording.svg"
COLUMNS: Final = 80
COMMANDS: Final = (
    "telemetry inspect examples/greenhouse.csv",
    "telemetry run --duration 3 --rate 400",
    "telemetry audit --start-server",
)
_PAUSE_S: Final = 1.5
"""To read what a command has shown, before the next one is typed."""
_LINE_S: Final = 0.06
_FIRST_LINES: Final = 15
_LAST_LINES: Final = 7
"""Of one command: what is longer is cut in the middle, and says so."""

# Rich's own, but for its fonts, which come from another host.
_FORMAT: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>telemetry in a terminal</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-matrix text {{ animation: appear 1ms both; }}
@keyframes appear {{ from {{ opacity: 0.2; }} }}
@media (prefers-reduced-motion: reduce) {{ .{unique_id}-matrix text {{ animation: none; }} }}
DELAYS
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def record(command: str, folder: Path) -> list[str]:
    """Run a command in a terminal, and give the lines that stand there in the end. Raises SystemExit."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    kept = {
        name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "PYTHONPATH"}
    }
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}",
        "TERM": "xterm-256color",
        "METRICS_HOST": "127.0.0.1",
    }
    with subprocess.Popen(
        command.split(), cwd=folder, env=environment, stdin=side, stdout=side, stderr=side
    ) as process:
        os.close(side)
        said = _read(main)
    os.close(main)
    if process.returncode:
        raise SystemExit(f"{command} has ended with {process.returncode}:\n{said}")
    # What a line was before it was written over is not there any more.
    return [re.split(r"\r(?:\x1b\[K)?", line.rstrip("\r"))[-1] for line in said.rstrip("\n").split("\n")]


def _read(main: int) -> str:
    read = bytearray()
    while True:
        try:
            more = os.read(main, 1 << 16)
        except OSError:  # Linux: nobody has the other side any more
            more = b""
        if not more:
            return read.decode(errors="replace")
        read += more


def draw(shown: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Draw commands with the lines of each, as ANSI text, one below the other."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    delays: list[float] = []
    at_s = 0.0
    for command, lines in shown:
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        delays.append(at_s)
        at_s += _PAUSE_S / 2
        kept = lines
        if len(lines) > _FIRST_LINES + _LAST_LINES + 1:
            kept = [*lines[:_FIRST_LINES], "...", *lines[-_LAST_LINES:]]
        for line in (*kept, ""):
            # Between words, where a terminal breaks within them: a picture is read, and not copied from.
            for row in Text.from_ansi(line).wrap(console, COLUMNS):
                console.print(row, no_wrap=True)
                delays.append(at_s)
            at_s += _LINE_S
        at_s += _PAUSE_S
    svg = console.export_svg(title="telemetry", theme=MONOKAI, code_format=_FORMAT, unique_id="t")
    rules = (
        f'[clip-path$="-line-{at})"] {{ animation-delay: {delay:.2f}s; }}' for at, delay in enumerate(delays)
    )
    return svg.replace("DELAYS", "\n".join(f".t-matrix {rule}" for rule in rules))


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, and write the picture."""
    parser = argparse.ArgumentParser(prog="recording", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=PICTURE, help="The file to write.")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(_ROOT / "examples")
        shown = [(command, record(command, Path(folder))) for command in COMMANDS]
    given.output.write_text(draw(shown), encoding="utf-8")


if __name__ == "__main__":
    main()
