"""What the loopback venue plays in fault scenarios."""

import contextlib
import json
import time
from contextlib import asynccontextmanager

import anyio
import httpx

from ssmd_core.testing import Recording, until
from ssmd_kalshi.venue import market_names, session


def now_ms():
    return time.time_ns() // 1_000_000


def live_recording(rate, *, markets=20, seed=1):
    """Return an endless session at so many frames a second, stamped with the present time."""
    return Recording(session(seed, market_names(markets), now_ms=now_ms), rate=rate)


def settings(**values):
    """Return the feed file's ``settings``, to be appended to it."""
    return f"settings: {json.dumps(values)}\n" if values else ""


@asynccontextmanager
async def watched(run):
    """Look at health and readiness all the time: alive, and not ready means a reason, always.

    Yields every reason that was given, each once, in order.
    """
    seen = {}

    async def look():
        while True:
            with contextlib.suppress(httpx.TransportError):
                assert (await run.get("/health")).status_code == 200
                answer = await run.get("/ready")
                said = answer.json()["reasons"]
                assert bool(said) == (answer.status_code == 503), answer.text
                seen.update(dict.fromkeys(said))
            await anyio.sleep(0.02)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        yield seen
        tasks.cancel_scope.cancel()


async def all_received(run, venue, seconds=60):
    """Wait until a silent venue's open clients have taken all they were sent."""

    async def taken():
        told = (await run.get("/status")).json()["connections"]
        sent = [client.sent_count for client in venue.clients if client.open]
        return sorted(each["frames"] for each in told) == sorted(sent)

    await until(taken, seconds)


async def all_repaired(run, archive, seconds=60):
    """Wait until each hole of trades has its answer, and the bus has what the archive holds."""

    async def answered():
        state = (await run.get("/ready")).json()
        if state["status"] != "ready" or state["degraded"]:
            return False
        lines = [each for each in archive.ledger() if each.get("channel") == "trade"]
        ends = [each["to_ts"] for each in lines if each["event"] in {"repaired", "unrepaired"}]
        holes = [each["to_ts"] for each in lines if each["event"] == "gap"]
        # The first subscription is the beginning; every other ends a hole.
        opened = {each["session"]: each["ts"] for each in archive.ledger("session_opened")}
        again = [each for each in lines if each["event"] == "subscribed"][1:]
        holes += [opened[each["session"]] for each in again]
        return not holes or (bool(ends) and max(ends) >= max(holes))

    await until(answered, seconds)
