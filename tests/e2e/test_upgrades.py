"""Upgrades after what people do between them, by Helm 3 and by Helm 4, which owns what it has set."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from e2e.cluster import CHART, PATIENCE_S, ROOT, CommandFailed, run, until
from e2e.conftest import GROWING, NewNamespace
from e2e.release import QUICK, Release, Values, merged

_VALUES: Final = merged(QUICK, {"global": {"storageClass": GROWING}})


@pytest.fixture(scope="module")
def demo(new: NewNamespace, helm_program: str, growing: str) -> Iterator[Release]:  # noqa: ARG001 - it is named
    """Install a release with this Helm; after all of it, no event is lost."""
    release = Release(new(helm_program))
    release.install(_VALUES)
    yield release
    release.assert_nothing_is_lost()


def _force(demo: Release) -> tuple[str, ...]:
    """Give what the documentation adds with Helm 4, where somebody else has set the same field."""
    knows = "--force-conflicts" in demo.namespace.helm("upgrade", "--help")
    return ("--force-conflicts",) if knows else ()


def _replicas(demo: Release, component: str = "consumer") -> int:
    return int(demo.namespace.get(f"deployment/{demo.name}-{component}")["spec"]["replicas"])


def _changed(number: int) -> Values:
    """Give values that differ each time, and restart nobody."""
    return merged(_VALUES, {"consumer": {"podDisruptionBudget": {"enabled": number % 2 == 0}}})


def test_what_kubectl_scale_has_set_outlasts_upgrades(demo: Release) -> None:
    """The README's own next step; the upgrade neither fails nor undoes it."""
    demo.scale("consumer", 3)
    demo.scale("producer", 2)
    for number in (1, 2):
        demo.upgrade(_changed(number))
        demo.ready("consumer", 3)
        demo.ready("producer", 2)
    demo.scale("producer", 1)


def test_a_number_among_the_values_is_set(demo: Release) -> None:
    """Also after `kubectl scale`; Helm 4 has to be told that it may."""
    demo.upgrade(merged(_changed(3), {"consumer": {"replicas": 2}}), *_force(demo))
    demo.ready("consumer", 2)
    demo.upgrade(merged(_changed(4), {"consumer": {"replicas": 2}}))
    demo.ready("consumer", 2)


def test_an_autoscaler_comes_and_goes(demo: Release) -> None:
    """It scales, is switched off, and leaves as many as there are; the next upgrade is as any other."""
    scaled = {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 3}}
    demo.upgrade(merged(_changed(5), {"consumer": scaled}))
    demo.ready("consumer", 3)
    for number in (6, 7):
        demo.upgrade(_changed(number))
        assert _replicas(demo) == 3
    assert demo.namespace.get("horizontalpodautoscalers") == []
    demo.scale("consumer", 1)


def test_the_consumers_volume_grows_by_its_value_and_by_hand(demo: Release) -> None:
    """And keeps the larger size, whoever has set it."""
    claim = f"{demo.name}-consumer-data"

    def size() -> str:
        return str(demo.namespace.get(f"pvc/{claim}")["spec"]["resources"]["requests"]["storage"])

    demo.upgrade(merged(_changed(8), {"consumer": {"persistence": {"size": "9Gi"}}}))
    assert size() == "9Gi"
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": "10Gi"}}}})
    demo.namespace.kubectl("patch", "pvc", claim, "--patch", patch)
    for number in (9, 10):
        demo.upgrade(_changed(number))
        assert size() == "10Gi"


def test_the_volume_of_redis_grows_as_the_refusal_says(demo: Release) -> None:
    """A StatefulSet can't be told; its claim can, and then the value is accepted. Redis is not restarted."""
    before = demo.pod("redis").document["metadata"]["uid"]
    larger = {"redis": {"persistence": {"size": "9Gi"}}}
    with pytest.raises(CommandFailed, match=r"redis\.persistence\.size") as refused:
        demo.upgrade(merged(_changed(11), larger))
    (command,) = re.findall(r"kubectl .*'$", str(refused.value), re.MULTILINE)
    run(*shlex.split(command))
    for number in (12, 13):
        demo.upgrade(merged(_changed(number), larger))
    demo.upgrade(_changed(14))
    claim = demo.namespace.get(f"pvc/data-{demo.name}-redis-0")
    assert claim["spec"]["resources"]["requests"]["storage"] == "9Gi"
    assert demo.pod("redis").document["metadata"]["uid"] == before


def test_another_storage_class_is_refused_before_anything_is_changed(demo: Release) -> None:
    """By its name, and with what to write; the same one by its name is accepted."""
    for part in ("consumer", "redis"):
        other = {part: {"persistence": {"storageClass": "other"}}}
        with pytest.raises(CommandFailed, match=rf"{part}\.persistence\.storageClass"):
            demo.upgrade(merged(_changed(15), other))
    same = {part: {"persistence": {"storageClass": GROWING}} for part in ("consumer", "redis")}
    demo.upgrade(merged(_changed(16), same))


def test_make_deploy_upgrades_whatever_was_done_by_hand(demo: Release, tmp_path: Path) -> None:
    """As it stands in the README; it may be told values and options."""
    demo.scale("consumer", 2)
    program = shutil.which(demo.namespace.helm_program)
    assert program is not None
    (tmp_path / "helm").symlink_to(program)
    values = tmp_path / "values.json"
    values.write_text(json.dumps(merged(_changed(17), {"consumer": {"replicas": 1}})))
    run(
        *("env", f"PATH={tmp_path}:{os.environ['PATH']}"),
        *("make", "deploy", f"NAMESPACE={demo.namespace.name}", f"VALUES={values}"),
        timeout_s=PATIENCE_S + 60,
    )
    demo.ready("consumer", 1)


def test_values_of_an_earlier_chart_are_completed(demo: Release, tmp_path: Path) -> None:
    """`--reuse-values` brings the defaults of the chart that was installed, which knew fewer keys."""
    earlier = tmp_path / "chart"
    shutil.copytree(ROOT / CHART, earlier)
    known = yaml.safe_load((earlier / "values.yaml").read_text())
    kept = {
        "settings": known["settings"],
        "redis": {"enabled": True},
        **{part: {"settings": known[part]["settings"]} for part in ("producer", "consumer")},
    }
    (earlier / "values.yaml").write_text(yaml.safe_dump(kept))
    options = ("--wait", f"--timeout={int(PATIENCE_S)}s")
    demo.namespace.helm(
        "upgrade", demo.name, str(earlier), "--values=-", *options,
        stdin=json.dumps(_changed(18)), timeout_s=PATIENCE_S + 30,
    )  # fmt: skip
    for reuse in ("--reuse-values", "--reset-then-reuse-values"):
        more = ("--set", "audit.enabled=true", "--set", "consumer.settings.maxDeliveries=7")
        arguments = ("upgrade", demo.name, CHART, reuse, *more, *options)
        demo.namespace.helm(*arguments, timeout_s=PATIENCE_S + 30)
        assert demo.namespace.get(f"cronjob/{demo.name}-audit")["spec"]["suspend"] is False
        assert _env(demo, "MAX_DELIVERIES", "CLAIM_IDLE_MS") == ["7", "13000"]


def _env(demo: Release, *names: str) -> Any:
    until(lambda: demo.ready("consumer"), PATIENCE_S, "a consumer")
    return demo.consumer("printenv", *names).split()
