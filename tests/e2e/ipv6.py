"""A Valkey that listens at its pod's IPv6 address alone, also in a cluster that gives its pods none.

There each has an address of the link all the same, where IPv6 is not turned off. Pods of one node reach each
other by it, if they are on one bridge.
"""

import ipaddress
from typing import Final

from e2e.cluster import (
    PATIENCE_S,
    VALKEY,
    Manifest,
    Namespace,
    on_node,
    our_images,
    server_pod,
    until,
)

_SERVER: Final = ("valkey-server", "--bind", "::", "--protected-mode", "no", "--save", "")
_IDLE: Final = ("python", "-c", "import time; time.sleep(3600)")
_ASK: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], 6379), timeout=5) as connection:
    connection.sendall(b"PING\\r\\n")
    print(connection.recv(100))
"""
_TENTATIVE: Final = 0x40
"""While the address is not known to be nobody else's."""


def deploy(namespace: Namespace, node: str) -> str:
    """Deploy it on a node, and give its address; none where pods of that node reach none by IPv6."""
    namespace.apply(
        _pod("server", node, VALKEY, *_SERVER),
        _pod("beside", node, our_images()[1], *_IDLE),
    )
    ready = ("--for=condition=Ready", "pod/server", "pod/beside", f"--timeout={PATIENCE_S:g}s")
    namespace.kubectl("wait", *ready, timeout_s=PATIENCE_S + 10)

    def addresses() -> str:
        return address_in(namespace.kubectl("exec", "server", "--", "cat", "/proc/net/if_inet6"))

    try:
        found = until(addresses, 10, "the server's pod has an IPv6 address")
        answer = namespace.kubectl("exec", "beside", "--", "python", "-c", _ASK, found)
    except AssertionError:
        return ""
    return found if "+PONG" in answer else ""


def address_in(table: str) -> str:
    """Find a pod's address in the list of Linux: the network's, or else the link's with its interface."""
    found = {}
    for line in table.splitlines():
        digits, _, _, scope, flags, interface = line.split()
        if not int(flags, 16) & _TENTATIVE:
            found[scope] = str(ipaddress.IPv6Address(bytes.fromhex(digits))), interface
    if "00" in found:
        return found["00"][0]
    return "%".join(found["20"]) if "20" in found else ""


def _pod(name: str, node: str, image: str, *command: str) -> Manifest:
    spec = server_pod(name, image, *command, nodeSelector=on_node(node))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
