"""Where a Prometheus on this machine finds what `telemetry run` has started."""

import json
import os
from pathlib import Path

import pytest

from services.ops.run.targets import hold_targets, read_targets, remove_targets, targets_folder, write_targets


def test_each_process_is_a_target_under_its_name(tmp_path: Path) -> None:
    """The dashboards know it by `pod`, as on a cluster."""
    write_targets(tmp_path, {"producer": 9100, "consumer-1": 9101, "consumer-2": 33333})
    (file,) = targets_folder(tmp_path).iterdir()
    assert json.loads(file.read_text(encoding="utf-8")) == [
        {"targets": ["127.0.0.1:9100"], "labels": {"job": "telemetry-producer", "pod": "producer"}},
        {"targets": ["127.0.0.1:9101"], "labels": {"job": "telemetry-consumer", "pod": "consumer-1"}},
        {"targets": ["127.0.0.1:33333"], "labels": {"job": "telemetry-consumer", "pod": "consumer-2"}},
    ]


def test_a_process_without_a_port_is_no_target(tmp_path: Path) -> None:
    """It would look as if it were down."""
    write_targets(tmp_path, {"producer": 0})
    (file,) = targets_folder(tmp_path).iterdir()
    assert json.loads(file.read_text(encoding="utf-8")) == []


def test_what_has_ended_is_no_target(tmp_path: Path) -> None:
    """Neither is it one when there was none."""
    write_targets(tmp_path, {"producer": 9100})
    remove_targets(tmp_path)
    remove_targets(tmp_path)
    assert list(targets_folder(tmp_path).iterdir()) == []


def test_what_a_killed_run_has_left_is_nobody_s(tmp_path: Path) -> None:
    """Its ports may be those of another pipeline by now, whose figures are none of ours."""
    write_targets(tmp_path, {"producer": 9100})
    assert read_targets(tmp_path) == {}
    held = [hold_targets(tmp_path) for _ in range(2)]  # two runs in one folder
    for one in held:
        assert read_targets(tmp_path) == {"producer": "127.0.0.1:9100"}
        os.close(one)
    assert read_targets(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 200_000, "[{}]", "7", '[{"labels": {"pod": "a"}, "targets": []}]']
)
def test_what_is_no_list_of_targets_names_none(tmp_path: Path, text: str) -> None:
    """Whatever was put there."""
    write_targets(tmp_path, {})
    (targets_folder(tmp_path) / "targets.json").write_text(text, encoding="ascii")
    held = hold_targets(tmp_path)
    assert read_targets(tmp_path) == {}
    os.close(held)
