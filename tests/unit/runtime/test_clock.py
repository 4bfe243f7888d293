"""The machine's clock, and its sleep."""

import os
import signal
import threading
import time

from services.runtime.clock import SystemClock


def test_a_sleep_lets_its_time_pass() -> None:
    """Nobody asks to stop, so the sleep takes what it takes."""
    clock = SystemClock()
    started = clock.monotonic()
    clock.sleep(0.02)
    assert clock.monotonic() - started >= 0.019
    assert abs(clock.now() - time.time()) < 5


def test_asked_to_stop_every_sleep_ends() -> None:
    """The sleep under way ends, and so does each from then on."""
    clock = SystemClock()
    started = time.monotonic()
    threading.Timer(0.02, clock.stop).start()
    clock.sleep(30.0)
    clock.sleep(30.0)
    assert clock.is_stopping()
    assert time.monotonic() - started < 10


def test_stopping_is_safe_in_a_signal_handler() -> None:
    """A signal in the middle of a sleep ends it."""
    clock = SystemClock()
    before = signal.signal(signal.SIGUSR1, lambda *_: clock.stop())
    try:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        clock.sleep(30.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert clock.is_stopping()
