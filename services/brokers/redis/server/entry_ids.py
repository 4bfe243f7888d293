"""What the id of an entry tells: when the server took it, and where it stands."""


def id_parts(entry_id: str) -> tuple[int, int]:
    """Split an entry id into what it is ordered by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def age_s(entry_id: str | None, now: float) -> float:
    """Tell how long ago an entry was published, in seconds; 0 without one."""
    if entry_id is None:
        return 0.0
    # An id of the far future (some producer set it by hand) has no age.
    return max(0.0, now - int(entry_id.partition("-")[0]) / 1000)


def ahead_s(entry_id: str, now: float) -> float:
    """Tell how far an id lies ahead of `now` (Unix seconds), in seconds; 0 for one of the past."""
    return max(0.0, id_parts(entry_id)[0] / 1000 - now)
