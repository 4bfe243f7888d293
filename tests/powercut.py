"""What is left on a disk after a power cut, told by the system calls of those who wrote to it.

strace writes down each call in its order, with its data. Replayed into a `Disk`, a write is kept once its
file was synced, and a name (of a file or of a folder) once the folder that it stands in was. All else may be
gone after a power cut, and part of it may be there: `Disk.restore` makes folders as either would be.

A sync that failed is the end of what it was to write, as on Linux: the system takes those pages for clean,
shows them to whoever reads, and writes them at no later sync. Only what is written anew comes to the disk.

This is stricter than most file systems are, and as strict as POSIX allows them to be.
"""

import os
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

_STARTS: Final = {"clone", "clone3", "fork", "vfork"}
_CALLS: Final = (
    *sorted(f"?{name}" for name in _STARTS),
    "?open", "?creat", "openat", "close", "write", "pwrite64", "writev", "pwritev", "lseek", "ftruncate",
    "fsync", "fdatasync", "?rename", "renameat", "renameat2", "?unlink", "unlinkat", "?mkdir", "mkdirat",
    "sendto", "sendmsg",
)  # fmt: skip
_LINE: Final = re.compile(r"^(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")
_ENDED: Final = re.compile(r"\) += (-?\d+)[^=]*$")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def strace_or_skip() -> str:
    """Find strace; skip where there is none, unless in CI."""
    strace = shutil.which("strace")
    if strace is None:
        why = "no strace here, so system calls are neither seen nor made to fail (apt-get install strace)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return strace


def under_strace(command: Sequence[str | Path], trace: Path, failing: str = "") -> list[str | Path]:
    """Write a command so that its calls go to a trace. `failing`: which fail, as strace's `inject` has it."""
    calls = ["-e", f"trace={','.join(_CALLS)}", "-e", "signal=none"]
    inject = ["-e", f"inject={failing}"] if failing else []
    return [strace_or_skip(), "-f", "-qq", "-xx", "-s", "16777216", *calls, *inject, "-o", trace, *command]


@dataclass(frozen=True)
class Call:
    """One system call that went well, or a sync that did not."""

    name: str
    arguments: str
    result: int
    process: int
    """Whose descriptors it is about: threads of one process have them together."""

    @property
    def descriptor(self) -> int:
        """The file that it is about."""
        return int(self.arguments.split(",")[0])

    @property
    def texts(self) -> list[bytes]:
        """Its paths, or its data."""
        found = _TEXT.findall(self.arguments)
        assert not any(cut for _, cut in found), "strace has cut the data off"
        return [bytes.fromhex(text.replace("\\x", "")) for text, _ in found]

    @property
    def path(self) -> Path:
        """The path that it is about. What we trace uses whole ones."""
        return Path(os.fsdecode(self.texts[0]))

    @property
    def sent(self) -> bytes:
        """What it sent to a server; empty if it is another call."""
        return b"".join(self.texts) if self.name in {"sendto", "sendmsg"} else b""


def calls(trace: Path) -> Iterator[Call]:
    """Read the calls of a trace that went well, and syncs that did not, in the order in which they ended."""
    # A thread may be seen before the call that has started it ends.
    read = list(_read_calls(trace))
    threads = {
        result: thread
        for thread, name, arguments, result in read
        if name in _STARTS and "CLONE_THREAD" in arguments
    }
    for thread, name, arguments, result in read:
        process = thread
        while process in threads:
            process = threads[process]
        if name not in _STARTS:
            yield Call(name, arguments, result, process)


def _read_calls(trace: Path) -> Iterator[tuple[int, str, str, int]]:
    """Give each call as its thread, name, arguments and result."""
    begun: dict[str, str] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if (found := _LINE.match(line.rstrip("\n"))) is None:
                continue
            thread, name, arguments, resumed, rest = found.groups()
            if resumed:
                name, arguments = resumed, begun.pop(thread, "") + rest
            elif arguments.endswith("<unfinished ...>"):
                begun[thread] = arguments.removesuffix("<unfinished ...>")
                continue
            ended = _ENDED.search(arguments)
            if ended and (int(ended[1]) >= 0 or name in {"fsync", "fdatasync"}):
                yield int(thread), name, arguments[: ended.start()], int(ended[1])


@dataclass(eq=False)
class _File:
    """A file: what was written to it, and what of that was synced."""

    content: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    """What was written since: position, data. A negative position is a cut to the length of -1 - position."""
    given_up: list[tuple[int, bytes]] = field(default_factory=list)
    """What a sync has failed to write."""

    def write(self, at: int, data: bytes) -> None:
        self.writes.append((at, data))
        _put(self.content, at, data)
        self.given_up = [part for one in self.given_up for part in _without(one, at, len(data))]

    def sync(self) -> None:
        for at, data in self.writes:
            _put(self.synced, at, data)
        self.writes.clear()

    def fail_sync(self) -> None:
        self.given_up += self.writes
        self.writes.clear()

    def after_cut(self, chance: random.Random | None) -> bytes:
        """Give what a power cut leaves: what was synced, and by chance some of the rest."""
        content = bytearray(self.synced)
        if chance is not None:
            for at, data in (*self.given_up, *self.writes):
                if chance.random() < 0.5:
                    _put(content, at, data)
        return bytes(content)


def _without(write: tuple[int, bytes], at: int, length: int) -> Iterator[tuple[int, bytes]]:
    """Give what is left of a write that another one goes over, or a cut."""
    start, data = write
    if start < 0:
        return
    first, last = (-1 - at, start + len(data)) if at < 0 else (at, at + length)
    if start < first:
        yield start, data[: first - start]
    if last < start + len(data):
        yield max(start, last), data[max(0, last - start) :]


def _put(content: bytearray, at: int, data: bytes) -> None:
    if at < 0:
        length = -1 - at
        del content[length:]
        content.extend(bytes(length - len(content)))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


@dataclass(eq=False)
class _Folder:
    """A folder: what its names lead to, and what they led to when it was synced."""

    names: dict[str, "_File | _Folder"] = field(default_factory=dict)
    synced: dict[str, "_File | _Folder"] = field(default_factory=dict)


@dataclass
class _Open:
    """A file or folder that somebody has open."""

    node: _File | _Folder
    appends: bool
    position: int = 0


class Disk:
    """What happens below a folder, which is there already and of which all that it holds is durable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = _read(root)
        self._open: dict[tuple[int, int], _Open] = {}

    def apply(self, call: Call) -> bool:
        """Do what a call did. Tells whether it changed what a power cut would leave."""
        if call.name in {"open", "openat", "creat"}:
            return self._opened(call)
        if call.name in {"mkdir", "mkdirat"}:
            return self._named(call.path, _Folder())
        if call.name in {"unlink", "unlinkat"}:
            return self._named(call.path, None)
        if call.name in {"rename", "renameat", "renameat2"}:
            old, new = (Path(os.fsdecode(text)) for text in call.texts)
            node = self._find(old)
            return node is not None and (self._named(new, node), self._named(old, None)) == (True, True)
        if call.name in {"sendto", "sendmsg"}:
            return False
        return self._on_open(call)

    def close_all(self) -> None:
        """Forget what is open: its process has ended."""
        self._open.clear()

    def restore(self, folder: Path, chance: random.Random | None = None) -> Path:
        """Write what a power cut now would leave into a new folder.

        `chance` keeps some of what was not synced, too, as a disk may. None: nothing of it.
        """
        shutil.rmtree(folder, ignore_errors=True)
        _write(self._top, folder, chance)
        return folder

    def unsynced(self) -> list[str]:
        """Name what a power cut now could take away."""
        return sorted(_unsynced(self._top, ""))

    def _opened(self, call: Call) -> bool:
        self._open.pop((call.process, call.result), None)
        if not (path := call.path).is_relative_to(self.root):
            return False
        found = self._find(path)
        is_new = found is None and ("O_CREAT" in call.arguments or call.name == "creat")
        if is_new:
            found = _File()
            self._named(path, found)
        if found is None:
            return False
        if isinstance(found, _File) and ("O_TRUNC" in call.arguments or call.name == "creat"):
            found.write(-1, b"")
        self._open[call.process, call.result] = _Open(found, "O_APPEND" in call.arguments)
        return is_new

    def _on_open(self, call: Call) -> bool:
        one = self._open.get((call.process, call.descriptor))
        if one is None:
            return False
        if call.name == "close":
            del self._open[call.process, call.descriptor]
            return False
        if call.name == "lseek":
            one.position = call.result
            return False
        if isinstance(one.node, _Folder):
            if call.result >= 0:
                one.node.synced = dict(one.node.names)
        elif call.result < 0:
            one.node.fail_sync()
        elif call.name in {"fsync", "fdatasync"}:
            one.node.sync()
        elif call.name == "ftruncate":
            one.node.write(-1 - int(call.arguments.split(",")[1]), b"")
        else:
            self._write(one, one.node, call)
        return True

    def _write(self, one: _Open, file: _File, call: Call) -> None:
        data = b"".join(call.texts)[: call.result]
        if call.name in {"pwrite64", "pwritev"}:
            file.write(int(call.arguments.rsplit(",", 1)[1]), data)
            return
        at = len(file.content) if one.appends else one.position
        file.write(at, data)
        one.position = at + len(data)

    def _folder(self, path: Path) -> _Folder | None:
        node: _File | _Folder | None = self._top
        if not path.is_relative_to(self.root):
            return None
        for part in path.relative_to(self.root).parts:
            node = node.names.get(part) if isinstance(node, _Folder) else None
        return node if isinstance(node, _Folder) else None

    def _find(self, path: Path) -> _File | _Folder | None:
        if path == self.root:
            return self._top
        folder = self._folder(path.parent)
        return None if folder is None else folder.names.get(path.name)

    def _named(self, path: Path, node: _File | _Folder | None) -> bool:
        folder = self._folder(path.parent)
        if folder is None:
            return False
        if node is None:
            folder.names.pop(path.name, None)
        else:
            folder.names[path.name] = node
        return True


def _read(path: Path) -> _Folder:
    names: dict[str, _File | _Folder] = {}
    for one in path.iterdir() if path.is_dir() else ():
        if one.is_dir():
            names[one.name] = _read(one)
        else:
            content = one.read_bytes()
            names[one.name] = _File(bytearray(content), bytearray(content))
    return _Folder(names, dict(names))


def _write(folder: _Folder, path: Path, chance: random.Random | None) -> None:
    path.mkdir(parents=True)
    names = dict(folder.synced)
    if chance is not None:
        for name in folder.synced.keys() | folder.names.keys():
            if chance.random() < 0.5:
                names.pop(name, None)
                if name in folder.names:
                    names[name] = folder.names[name]
    for name, node in names.items():
        if isinstance(node, _Folder):
            _write(node, path / name, chance)
        else:
            (path / name).write_bytes(node.after_cut(chance))


def _unsynced(folder: _Folder, path: str) -> Iterator[str]:
    for name in folder.names.keys() | folder.synced.keys():
        node = folder.names.get(name)
        if node is not folder.synced.get(name):
            yield f"the name {path}{name}"
        if isinstance(node, _Folder):
            yield from _unsynced(node, f"{path}{name}/")
        elif (
            node is not None and (node.writes or node.given_up) and not name.endswith("-shm")
        ):  # made anew from the WAL
            yield f"the content of {path}{name}"
