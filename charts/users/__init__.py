"""The users of Redis, with their rules, as the chart's own Redis has them: a file of the chart."""

import re
from pathlib import Path
from typing import Final

from services.brokers.redis.keys import StreamKeys

_RULES: Final = Path(__file__).parents[1] / "telemetry-pipeline/charts/redis/files/users"


def rules(stream: str, *, drops_oldest: bool = False) -> dict[str, str]:
    """Give the rules of each user for a stream, as `ACL SETUSER` takes them.

    `drops_oldest`: producers run with STREAM_FULL=drop_oldest.
    """
    lines = re.sub(r"(?m)^ *#.*\n", "", _RULES.read_text(encoding="utf-8"))
    text = re.sub(r"\n +", " ", lines)
    for word, is_wanted in (("drop_oldest", drops_oldest), ("hash_tag", "{" in stream)):
        text = text.replace(f" {word}(", " (") if is_wanted else re.sub(rf" {word}\([^)]*\)", "", text)
    text = text.replace("PREFIX", StreamKeys(stream).prefix).replace("STREAM", stream)
    users = (line.partition(" ") for line in text.splitlines() if line)
    return {user: rule for user, _, rule in users}
