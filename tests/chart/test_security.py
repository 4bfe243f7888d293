"""Every pod of every set of values is within the pod security standard `restricted`, and a little more."""

from typing import Any, Final

import pytest
from chart.rendering import SETS, Pod, Rendered, merged, render

pytestmark = pytest.mark.usefixtures("helm")

# https://kubernetes.io/docs/concepts/security/pod-security-standards, as of Kubernetes 1.35.
VOLUMES: Final = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS: Final = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
SELINUX_TYPES: Final = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def _restricted(pod: Pod) -> list[str]:
    """List what of a pod the standard forbids."""
    spec = pod.spec
    whole = spec.get("securityContext") or {}
    wrong = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    wrong += [f"sysctl {one['name']}" for one in whole.get("sysctls") or [] if one["name"] not in SYSCTLS]
    wrong += [f"volume {one}" for one in spec.get("volumes") or [] if not (one.keys() - {"name"}) <= VOLUMES]
    wrong += _identity("pod", whole)
    for container in pod.containers:
        wrong += _restricted_container(container, whole)
    return wrong


def _identity(name: str, context: dict[str, Any]) -> list[str]:
    """List what is wrong in what may stand in a pod or in a container."""
    selinux = context.get("seLinuxOptions") or {}
    checks = {
        "runAsNonRoot": context.get("runAsNonRoot") in {None, True},
        "runAsUser": context.get("runAsUser") != 0,
        "seccompProfile": (context.get("seccompProfile") or {"type": None})["type"]
        in {None, "RuntimeDefault", "Localhost"},
        "appArmorProfile": (context.get("appArmorProfile") or {"type": None})["type"]
        in {None, "RuntimeDefault", "Localhost"},
        "seLinuxOptions": selinux.get("type") in SELINUX_TYPES
        and not selinux.get("user")
        and not selinux.get("role"),
        "windowsOptions": not (context.get("windowsOptions") or {}).get("hostProcess"),
    }
    return [f"{name}: {check}" for check, right in checks.items() if not right]


def _restricted_container(container: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    name, context = container["name"], container.get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    probes = [container.get(f"{kind}Probe") or {} for kind in ("startup", "liveness", "readiness")]
    checks = {
        "privileged": not context.get("privileged"),
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
        "capabilities.drop": "ALL" in (capabilities.get("drop") or []),
        "capabilities.add": set(capabilities.get("add") or []) <= {"NET_BIND_SERVICE"},
        "runAsNonRoot": {**whole, **context}.get("runAsNonRoot") is True,
        "seccompProfile": "seccompProfile" in {**whole, **context},
        "procMount": context.get("procMount") in {None, "Default"},
        "hostPort": not any(port.get("hostPort") for port in container.get("ports") or []),
        "probe of another host": not any(
            (probe.get(kind) or {}).get("host") for probe in probes for kind in ("httpGet", "tcpSocket")
        ),
    }
    return [f"{name}: {check}" for check, right in checks.items() if not right] + _identity(name, context)


def test_every_pod_is_restricted(rendered: Rendered) -> None:
    """Those of `helm test` too, so all of it runs in a namespace that enforces the standard."""
    assert {pod.name: _restricted(pod) for pod in rendered.pods if _restricted(pod)} == {}


def test_a_pod_that_is_not_restricted_is_seen() -> None:
    """The check itself finds what it is for."""
    done = merged(render().pod("consumer").owner, {"spec": {"template": {"spec": {"hostNetwork": True}}}})
    done["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": 0}
    found = _restricted(Pod(done))
    assert {"hostNetwork", "pod: runAsUser", "consumer: runAsNonRoot", "consumer: seccompProfile"} <= set(
        found
    )


def test_nothing_can_be_written_to_but_volumes(rendered: Rendered) -> None:
    """The root file system of every container is read-only."""
    for pod in rendered.pods:
        for container in pod.containers:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, (
                pod.name,
                container["name"],
            )


def test_no_pod_is_given_a_token(rendered: Rendered) -> None:
    """Nothing here talks to the cluster's API."""
    for pod in rendered.pods:
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
    for account in rendered.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not {one["kind"] for one in rendered.all} & {
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    }


def test_no_pod_is_given_the_services_of_its_namespace(rendered: Rendered) -> None:
    """Their variables have names like settings: REDIS_PORT=tcp://..."""
    for pod in rendered.pods:
        assert pod.spec["enableServiceLinks"] is False, pod.name


def test_every_container_has_its_resources(rendered: Rendered) -> None:
    """What it asks for, and where its memory ends; no limit of CPU, which only slows things down."""
    for pod in rendered.lasting_pods:
        resources = pod.main["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), pod.name
        assert "memory" in resources["limits"], pod.name


def test_the_platform_may_choose_the_user() -> None:
    """On OpenShift a user id that is given is refused."""
    rendered = render(SETS["openshift"])
    for component in ("producer", "consumer", "redis"):
        context = rendered.pod(component).spec["securityContext"]
        assert context.keys() & {"runAsUser", "runAsGroup", "fsGroup"} == set(), component
        assert context["runAsNonRoot"] is True


def test_passwords_are_in_the_pods_that_need_them_only() -> None:
    """The producer has its own; the operator's is with the consumers, and nowhere where that is off."""
    rendered = render()
    assert _keys(rendered, "producer") == {"producer-password"}
    assert _keys(rendered, "consumer") == {"consumer-password", "operator-password"}
    without = render({"consumer": {"operatorAccess": False}})
    assert _keys(without, "consumer") == {"consumer-password"}


def _keys(rendered: Rendered, component: str) -> set[str]:
    """Give the keys of Secrets that a component's pods can read."""
    pod = rendered.pod(component)
    keys = {
        one["valueFrom"]["secretKeyRef"]["key"]
        for container in pod.containers
        for one in container.get("env") or []
        if "secretKeyRef" in (one.get("valueFrom") or {})
    }
    for volume in pod.spec.get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            if secret := source.get("secret"):
                assert secret.get("items"), f"{component}: the whole Secret"
                keys |= {item["key"] for item in secret["items"]}
    assert not [
        source
        for container in pod.containers
        for source in container.get("envFrom") or []
        if "secretRef" in source
    ]
    return keys
