"""A Redis that is there already: it serves by TLS too, and what is wrong is said in one line.

That it serves by a password alone: test_kubernetes_page.py.
"""

import shutil
from typing import Final

import pytest
from e2e.cluster import PATIENCE_S, Namespace, until
from e2e.external import LIMITED, TLS_PORT, deploy
from e2e.release import QUICK, Release, Values, merged

_EXTERNAL: Final = {
    "redis": {"enabled": False},
    "externalRedis": {"host": "external", "existingSecret": "external"},
}
_TLS: Final = {"port": TLS_PORT, "tls": {"enabled": True, "caSecret": "external-ca"}}

# Name of the release: what is wrong with externalRedis, and what both services have to say about it.
_WRONG: Final[dict[str, tuple[Values, str]]] = {
    "nobody": ({"host": "nobody"}, "Redis at nobody:6379 "),
    "password": ({"existingSecret": "wrong"}, "refuses the password or user: "),
    "right": ({"usernames": {"producer": LIMITED, "consumer": LIMITED}}, "lacks a right for this user: "),
    "plain": ({"tls": {"enabled": True}}, "Redis at external:6379 does not answer: "),
    "untrusted": ({"port": TLS_PORT, "tls": {"enabled": True}}, "fails at TLS: "),
}


@pytest.fixture(scope="module")
def external(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """Run a Valkey in the namespace, and a Service `nobody` without any pod behind it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make certificates with")
    deploy(namespace, tmp_path_factory.mktemp("tls"))
    namespace.kubectl("create", "secret", "generic", "wrong", "--from-literal=password=guessed")
    namespace.kubectl("create", "service", "clusterip", "nobody", "--tcp=6379")
    return namespace


def test_a_release_with_an_external_redis_works_with_tls(external: Namespace) -> None:
    """Trusting the certificate authority of the Secret, and no other."""
    release = Release(external, "trusting")
    release.install(merged(QUICK, _EXTERNAL, {"externalRedis": _TLS}))
    release.assert_nothing_is_lost()


@pytest.fixture(scope="module")
def wrong(external: Namespace) -> dict[str, Release]:
    """Install a release for each thing that can be wrong, all at once."""
    releases = {name: Release(external, name) for name in _WRONG}
    for name, release in releases.items():
        release.start(merged(QUICK, _EXTERNAL, {"externalRedis": _WRONG[name][0]}))
    return releases


@pytest.mark.parametrize("name", _WRONG)
def test_pods_that_may_not_speak_to_redis_say_why_and_wait_unready(
    wrong: dict[str, Release], name: str
) -> None:
    """One clear line of each service, the same while it lasts, and no restart."""
    release, expected = wrong[name], _WRONG[name][1]
    for service in ("producer", "consumer"):

        def complains(service: str = service) -> list[str]:
            return [line["error"] for line in release.pod(service).logged("redis_unavailable")]

        assert expected in until(complains, PATIENCE_S, f"the {service} says what is wrong")[0]
        # The next line comes after ten seconds, if nothing has changed: until then it is seen to wait.
        until(lambda ask=complains: len(ask()) > 1, PATIENCE_S, "it says so again")  # type: ignore[misc]
        assert all(expected in error for error in complains())
    for pod in release.pods():
        assert not pod.is_ready
        assert not pod.restarts
        pod.assert_log()
