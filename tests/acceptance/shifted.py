"""Run a service whose wall clock is wrong: `shifted.py SECONDS services.consumer [argument ...]`."""

import runpy
import sys
import time

_now = time.time


def main(seconds: float, module: str, *arguments: str) -> None:
    """Run a module as `python -m` does, so many seconds ahead of the time, or behind it."""
    vars(time)["time"] = lambda: _now() + seconds
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
