"""What really happened at the loopback venue; archive and bus are held against it."""

import json
from collections import Counter, defaultdict
from decimal import Decimal

from rig.conservation import nanoseconds
from ssmd_kalshi.venue import KalshiFace
from ssmd_kalshi.venue_history import TRADES_PATH

SECOND_NS = 10**9
_BOOK_KINDS = ("orderbook_snapshot", "orderbook_delta")


class TruthfulFace(KalshiFace):
    """Keeps what happened to the books, whoever was told."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.book_events = []

    def advance(self, item):
        super().advance(item)
        if item.kind in _BOOK_KINDS:
            self.book_events.append((item.kind, item.msg))

    def trades(self):
        """Return trade id → Unix nanoseconds of every trade that the venue's REST knows."""
        found, cursor = {}, ""
        while True:
            query = f"?limit=1000&cursor={cursor}" if cursor else "?limit=1000"
            page = json.loads(self.history.answer(TRADES_PATH + query).body)
            found |= {row["trade_id"]: nanoseconds(_padded(row)) for row in page["trades"]}
            cursor = page["cursor"].replace("+", "%2B").replace("=", "%3D").replace("/", "%2F")
            if not cursor:
                return found


def _padded(row):
    return row["created_time"].removesuffix("Z") + "000+00:00"


def books_after(events):
    """Return market → levels after snapshots and changes, taken in order as they are."""
    books = {}
    for kind, msg in events:
        said = json.loads(msg)
        market = said["market_ticker"]
        if kind == "orderbook_snapshot":
            books[market] = {
                (side, price): Decimal(size)
                for side in ("yes", "no")
                for price, size in said.get(f"{side}_dollars_fp") or ()
            }
            continue
        place, book = (said["side"], said["price_dollars"]), books.setdefault(market, {})
        book[place] = book.get(place, Decimal(0)) + Decimal(said["delta_fp"])
        if not book[place]:
            del book[place]
    return books


def judge_books(books, face):
    """Check that whoever follows the archived snapshots and changes has the venue's books."""
    followed = books_after(
        (frame["type"], json.dumps(frame["msg"]))
        for _, frame in _frames(books.lines)
        if frame["type"] in _BOOK_KINDS
    )
    assert followed == books_after(face.book_events), "a book went wrong and was not mended"


# ── trades ───────────────────────────────────────────────────────────────────────


def first_receipts(books):
    """Return trade id → (receipt time, whether over REST) of the frame that brought it first."""
    first = {}
    for line, frame in _frames(books.lines):
        if frame["type"] == "trade":
            first.setdefault(frame["msg"]["trade_id"], (line.ts, False))
    for line in books.rest:
        for row in _rows(line.data):
            name = row["trade_id"]
            if name not in first or line.ts < first[name][0]:
                first[name] = (line.ts, True)
    return first


def live_trades(books):
    """Return the ids of the trades that came over the socket."""
    frames = _frames(books.lines)
    return {frame["msg"]["trade_id"] for _, frame in frames if frame["type"] == "trade"}


def _frames(lines):
    """Yield each line with the message that it holds; not what is no message, and kept raw."""
    for line in lines:
        frame = None if line.raw else json.loads(line.data)
        if isinstance(frame, dict):
            yield line, frame


def _rows(body):
    try:
        return json.loads(body).get("trades", ())
    except (ValueError, AttributeError):
        return ()


def judge_trades(books, face, messages=None, *, given_up=False):
    """Check that every trade of the venue is kept and published once, or given up on record.

    Args:
        books: what the archive holds. Capture must have begun before the first trade.
        face: the venue's own truth.
        messages: every stored message of the bus, where there is one.
        given_up: holes may have been left unrepaired.
    """
    past, first, live = face.trades(), first_receipts(books), live_trades(books)
    assert past, "the venue had no trades"
    missing = past.keys() - first.keys()
    unrepaired = _holes(books, "unrepaired")
    undeclared = [name for name in missing if not _lies_in(past[name], unrepaired)]
    assert not undeclared, f"{len(undeclared)} trades are gone and no line says so"
    assert given_up or not missing, f"{len(missing)} trades are given up"
    holes = _holes(books, "repaired", "unrepaired")
    strangers = [n for n in past.keys() - live - missing if not _lies_in(past[n], holes)]
    assert not strangers, f"{len(strangers)} trades came over REST and no line says why"
    if messages is not None:
        _judge_origins(past.keys() - missing, first, messages)


def _judge_origins(wanted, first, messages):
    stored = defaultdict(list)
    for message in messages:
        name = message.headers.get("Nats-Msg-Id", "")
        if ":trade:" in name:
            stored[name.rpartition(":")[2]].append(message.headers.get("Ssmd-Origin"))
    absent = wanted - stored.keys()
    assert not absent, f"{len(absent)} trades are archived and not on the bus"
    for name in wanted:
        (origin,) = stored[name]
        expected = {"backfill"} if first[name][1] else {None, "catchup"}
        assert origin in expected, f"trade {name} says origin {origin}, not {expected}"


def _holes(books, *events):
    return [
        (nanoseconds(each["from_ts"]), nanoseconds(each["to_ts"]))
        for each in books.events(*events)
        if each["channel"] == "trade"
    ]


def _lies_in(created, holes):
    """Say whether a hole explains a trade: its bounds are of receipt, a trade happens earlier."""
    return any(start - 2 * SECOND_NS <= created <= end + SECOND_NS for start, end in holes)


# ── numbers ──────────────────────────────────────────────────────────────────────


def judge_gaps(books):
    """Check that the ledger tells each hole of the numbers with its bounds, and no other.

    Returns:
        How many numbers are missing, by channel.
    """
    said = Counter(
        (
            each["session"],
            each["channel"],
            each["first"],
            each["last"],
            nanoseconds(each["from_ts"]),
            nanoseconds(each["to_ts"]),
        )
        for each in books.events("gap")
        if each["first"] is not None
    )
    found, cut_short = Counter(), Counter()
    for session in books.sessions():
        holes = Counter(_recount(books, session))
        found += holes
        if session.cause == "crashed":
            cut_short += holes  # between the frames and the line that tells of them
    found -= cut_short - said
    assert said == found, f"only declared: {said - found}; only found: {found - said}"
    missing = Counter()
    for _, channel, first, last, *_ in found:
        missing[channel] += last - first + 1
    return missing


def _recount(books, session):
    names = {
        each["sid"]: each["channel"]
        for each in books.events("subscribed")
        if each["session"] == session.id
    }
    places = {}
    for line, frame in _frames(session.lines):
        if frame.get("type") == "subscribed":
            places.setdefault(frame["msg"]["sid"], (0, line.ts))
        if "seq" not in frame or "sid" not in frame:
            continue
        sid, number = frame["sid"], frame["seq"]
        last, seen = places.get(sid, (0, line.ts))
        if number > last + 1:
            # Of a subscription whose confirmation got lost only the id is known.
            yield session.id, names.get(sid, str(sid)), last + 1, number - 1, seen, line.ts
        places[sid] = (number, line.ts)
