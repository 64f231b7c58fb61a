import pytest
from rich.console import Console

from ssmd_core.cli.demo_files import survey
from ssmd_core.cli.demo_view import line, picture, size, summary
from ssmd_core.cli.demo_watch import BusMessage, Glimpse, Watch
from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics
from ssmd_core.records import SCALE, Batch, Side, Ticker, Trade

NOW = 1_795_000_000_000_000_000
TRADE = Trade("KXA-1", NOW, 40 * SCALE // 100, 3 * SCALE, Side.BUY, "id")
TICKER = Ticker("KXA-1", NOW, None, None, None, 0, 0)


def batch_of(*records, age_ms=0):
    frames = [b"{}"] * len(records)
    parsed = [Parsed(label=record.kind, records=(record,)) for record in records]
    return Batch(NOW + age_ms * 1_000_000, frames), parsed


def glimpse_of(watch=None, *, nats=False, ready=True, elapsed=10.0, before=None, **counts):
    metrics = Metrics(**counts)
    metrics.messages.add("ticker", 800)
    metrics.messages.add("trade", 200)
    status = {
        "feed": "acme",
        "ready": ready,
        "reasons": [] if ready else ["connection 0: connecting"],
        "storage": {"file": "2026-11-22/acme.jsonl", "offset": 1},
    }
    watch = watch or Watch()
    return Glimpse.of(metrics, status, watch, elapsed_seconds=elapsed, nats=nats, before=before)


def drawn(renderable, width=80):
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_watch_keeps_the_last_trades_only():
    watch = Watch()
    for _ in range(50):
        watch.take(*batch_of(TRADE, TICKER))
    assert watch.records == {"trade": 50, "ticker": 50}
    assert 0 < len(watch.trades) < 10


def test_the_age_is_the_mean_since_it_was_last_asked_for():
    watch = Watch()
    watch.take(*batch_of(TRADE, age_ms=10))
    watch.take(*batch_of(TRADE, age_ms=30))
    assert watch.take_age_ms() == pytest.approx(20)
    assert watch.take_age_ms() == 0


def test_the_rate_is_that_since_the_glimpse_before():
    first = glimpse_of(elapsed=5.0)
    assert first.rate == 200
    assert glimpse_of(elapsed=7.0, before=first).rate == 0


def test_a_line_says_rate_types_and_state():
    text = line(glimpse_of(archived_bytes=2048))
    assert "1,000 frames  100/s  ticker 800, trade 200" in text
    assert "archive 2.0 kB  ready" in text
    assert "bus" not in text


def test_a_line_says_why_it_is_not_ready():
    assert line(glimpse_of(ready=False)).endswith("not ready: connection 0: connecting")


def test_a_line_with_a_bus_counts_acknowledgements():
    assert "bus 1,234 acknowledged" in line(glimpse_of(nats=True, published=1234))


def test_the_picture_shows_trades_and_messages_within_a_small_terminal():
    watch = Watch()
    for _ in range(20):
        watch.take(*batch_of(TRADE))
        watch.take_message(BusMessage("demo.acme.trade.KXA-1", {"price": 0.4, "size": 3}))
    text = drawn(picture(glimpse_of(watch, nats=True)))
    assert "KXA-1" in text
    assert "0.4000" in text
    assert "price=0.4 size=3" in text
    assert len(text.splitlines()) <= 24


def test_the_picture_shows_why_it_is_not_ready():
    assert "connection 0: connecting" in drawn(picture(glimpse_of(ready=False)))


def test_a_ticker_that_looks_like_markup_is_shown_as_it_is():
    watch = Watch()
    watch.take(*batch_of(Trade("[red]X[/red]", NOW, SCALE, SCALE, Side.SELL)))
    assert "[red]X[/red]" in drawn(picture(glimpse_of(watch)))


def test_the_summary_names_files_with_size_lines_and_first_line(tmp_path):
    day = tmp_path / "data" / "2026-11-22"
    day.mkdir(parents=True)
    (day / "acme.jsonl").write_text('{"ts":1}\n{"ts":2}\n')
    (day / "other.jsonl").write_text("x\n")
    files = survey(tmp_path / "data", "acme")
    text = "\n".join(summary(glimpse_of(), Metrics(), files, tmp_path))
    assert 'data/2026-11-22/acme.jsonl   18 B, 2 lines\n    {"ts":1}\n' in text
    assert "other" not in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (5 * 1024**3, "5.0 GB")]
)
def test_sizes_are_written_for_people(count, text):
    assert size(count) == text
