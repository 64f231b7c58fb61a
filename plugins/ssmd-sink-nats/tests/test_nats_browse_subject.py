from ssmd_sink_nats.browse import NatsReader
from ssmd_sink_nats.config import NatsConfig


def test_a_reader_says_the_subject_that_a_record_was_published_under():
    reader = NatsReader(object(), NatsConfig(url="nats://127.0.0.1:4222"))
    assert reader.subject("lab", "tiny", "trade", "KX-1.99") == "lab.tiny.trade.KX-1.99"
    assert reader.subject("lab", "tiny", "trade", "A B.") == "lab.tiny.trade.A%20B%2E"
    assert reader.subject("prod", "tiny", "ticker", "") == "prod.tiny.ticker.%"
