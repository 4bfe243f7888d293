"""What TLS needs of the files that an address names."""

import ssl
from collections.abc import Mapping
from typing import Any


def make_context(parameters: Mapping[str, Any]) -> ssl.SSLContext:
    """Make what TLS needs, of the parameters of an address.

    Raises OSError (ssl.SSLError is one) and ValueError for files that can't be used.
    """
    context = ssl.create_default_context()
    load_into(context, parameters)
    return context


def load_into(context: ssl.SSLContext, parameters: Mapping[str, Any]) -> None:
    """Load the files of an address into a context of a client. Raises as above."""
    verify = parameters.get("ssl_cert_reqs", "required")
    context.check_hostname = verify != "none" and parameters.get("ssl_check_hostname", True)
    context.verify_mode = {
        "none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED
    }[verify]  # fmt: skip
    authorities = [parameters.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]
    if any(authorities):
        context.load_verify_locations(*authorities)
    if certificate := parameters.get("ssl_certfile"):
        password = parameters.get("ssl_password") or _no_password
        context.load_cert_chain(certificate, parameters.get("ssl_keyfile"), password)
    if ciphers := parameters.get("ssl_ciphers"):
        context.set_ciphers(ciphers)


def _no_password() -> str:
    # Without one, the library asks on the terminal, and waits.
    raise ValueError("the private key is encrypted, and there is no password for it")
