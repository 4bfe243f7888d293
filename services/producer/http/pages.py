"""Whether a web page sends a request, by way of the browser of somebody who only looks at it.

Where no token is asked for, being able to reach the door is enough, and a browser on this machine can. A
page of any site may have it send text, and JSON without a content type, and need not see the answer. What
tells: a browser adds `Origin` to whatever writes, the site's own requests included, if only as `null`;
newer ones add `Sec-Fetch-Site`. Programs (curl, Telegraf, the clients of InfluxDB) send neither. And a name
in `Host` that is none of this machine says that somebody led his own name here (DNS rebinding): for a
browser it is one site then.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from services.producer.rows.problem import shown

_OWN: Final = "localhost"
_HOST: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::[0-9]*)?")


def sent_by_page(headers: Mapping[str, str]) -> str:
    """Say by which header a browser is known; empty: it is none. Names of headers in small letters."""
    if (origin := headers.get("origin")) is not None:
        return f"Origin: {shown(origin, 60)}"
    if (site := headers.get("sec-fetch-site", "none")) != "none":
        return f"Sec-Fetch-Site: {shown(site, 20)}"
    return ""


def is_own_name(host: str) -> bool:
    """Tell whether a Host is this machine's: an address, which nobody can lead elsewhere, or localhost."""
    found = _HOST.fullmatch(host.strip().lower())
    if found is None:
        return False
    name = (found[1] or found[2]).removesuffix(".")
    if not name or name == _OWN or name.endswith(f".{_OWN}"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
