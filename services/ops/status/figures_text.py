"""The main figures as a person reads them: in one line, or as a few."""

from typing import Final

from services.ops.output.parts import Facts, Record
from services.ops.output.times import show_ago, show_span
from services.ops.status.scrapes import THE_ONE_HERE

_OUTCOMES: Final = ("stored", "duplicate", "dead", "pending", "in_flight")


def figures_line(found: Record) -> str:
    """Say the most important of them in one line; `-` for what isn't known."""
    accounts, audit = found["law"] or {}, found["audit"] or {}
    breaker = {None: "-", False: "closed", True: "open"}[found["breaker_open"]]
    told = {
        "in_rate": _a_second(found["in_per_s"]),
        "stored_rate": _a_second(found["stored_per_s"]),
        "dead_rate": _a_second(found["dead_per_s"]),
        "p50": _duration(found["latency_p50_s"]),
        "p99": _duration(found["latency_p99_s"]),
        "unaccounted": accounts.get("unaccounted", "-"),
        "missing": audit.get("missing", "-"),
        "breaker": breaker,
    }
    return " ".join(f"{name}={text}" for name, text in told.items())


def figures_part(found: Record, ours: Record | None, consumers: int = 1) -> Facts:
    """Lay them out: does it flow, is it late, is anything lost.

    `ours` is the consumers' group, and `consumers` how many it has.
    """
    facts = []
    if found["seconds"] is not None:  # rates are of the time between two looks
        into, stored, dead = (_a_second(found[f"{name}_per_s"]) for name in ("in", "stored", "dead"))
        p50, p99 = _duration(found["latency_p50_s"]), _duration(found["latency_p99_s"])
        facts.append(("flow", f"in {into}, stored {stored}, dead {dead}"))
        facts.append(("latency", f"p50 {p50}, p99 {p99}, from publication to commit"))
    if ours is not None:
        told = "the server's" if ours["lag_known"] else "counted"
        unread, pending = (show_span(ours[f"oldest_{name}_age_s"]) for name in ("unread", "pending"))
        facts.append(("unread", f"{ours['lag']:,} entries ({told}), the oldest {unread}"))
        facts.append(("pending", f"{ours['pending']:,} entries, the oldest {pending}"))
    silent = [one["name"] for one in found["processes"] if not one["answers"]]
    if silent:
        facts.append(("no answer", ", ".join(silent)))
    if consumers > 1 and [one["name"] for one in found["processes"]] == [THE_ONE_HERE]:
        told = f"one of {consumers} consumers: stored, dead, latency, law and breaker are its own"
        facts.append(("asked", told))
    if found["clock_behind_s"]:
        facts.append(("clock", f"BEHIND by {show_span(found['clock_behind_s'])}: nothing is consumed there"))
    return Facts("Main figures", [*facts, *_law(found), _audit(found["audit"])])


def _law(found: Record) -> list[tuple[str, str]]:
    accounts = found["law"]
    if accounts is None:
        return [("law", "not known: no consumer runs here, or none answers")]
    parts = " + ".join(f"{accounts[name]:,} {name.replace('_', ' ')}" for name in _OUTCOMES)
    if found.get("conflicts"):
        parts += f" ({found['conflicts']:,} of the dead are conflicts)"
    wrong = accounts["unaccounted"]
    verdict = f"BROKEN, {wrong:,} unaccounted for" if wrong else "holds"
    return [
        ("law", f"{verdict}: {accounts['received']:,} received = {parts}"),
        ("breaker", "OPEN: nothing is consumed" if found["breaker_open"] else "closed"),
    ]


def _audit(audit: Record | None) -> tuple[str, str]:
    if audit is None:
        return ("last audit", "none is recorded (telemetry audit --record)")
    verdict = f"{audit['missing']:,} MISSING" if audit["missing"] else "nothing missing"
    conflicts = f", {audit['conflicts']:,} conflicts" if audit.get("conflicts") else ""
    told = f"{verdict} of {audit['published']:,} published{conflicts}, {show_ago(audit['ended_at'])}"
    return ("last audit", told)


def _a_second(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}/s"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"
