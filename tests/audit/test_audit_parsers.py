from ssmd_core.audit.parsers import Parsers
from ssmd_core.audit.repairs import can_be_repaired
from ssmd_core.errors import PluginError
from ssmd_core.feed import Endpoint, FeedContext, WebSocketFeed
from ssmd_core.feed.repair import Fetch
from ssmd_core.plugins import FeedType
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry


class Venue(WebSocketFeed):
    def endpoint(self, plan):
        return Endpoint(url="ws://127.0.0.1/")

    def on_open(self, session):
        return ()

    def parse(self, data, session):
        raise AssertionError

    def backfill(self, missed):
        if missed.channel == "broken":
            raise AttributeError("no settings")
        return Fetch(url="http://127.0.0.1/") if missed.channel == "trade" else None


class Plugins:
    def __init__(self, offline):
        self.asked = []
        self.offline = offline

    def feed(self, spec):
        self.asked.append(spec)
        if spec == "gone":
            raise PluginError("nobody provides the feed type `gone`")
        return FeedType(
            name=spec, api_version=1, config=FeedContext, open=Venue, offline=self.offline
        )


def test_the_plugin_of_the_session_wins_over_the_name_of_the_feed():
    plugins = Plugins(Venue)
    parsers = Parsers(plugins)
    assert isinstance(parsers.parser("kalshi", "acme:fork").feed, Venue)
    assert isinstance(parsers.parser("kalshi").feed, Venue)
    assert plugins.asked == ["acme:fork", "kalshi"]


def test_a_feed_is_made_once():
    plugins = Plugins(Venue)
    parsers = Parsers(plugins)
    assert parsers.parser("x").feed is parsers.parser("x").feed
    assert plugins.asked == ["x"]


def test_why_there_is_no_parser_is_told():
    assert "nobody provides" in Parsers(Plugins(Venue)).parser("gone").why_not
    assert "does not read frames offline" in Parsers(Plugins(None)).parser("x").why_not

    def fail():
        raise ZeroDivisionError("by zero")

    assert "by zero" in Parsers(Plugins(fail)).parser("x").why_not


def test_a_channel_that_the_feed_can_fetch_can_be_repaired():
    assert can_be_repaired(Venue(), "trade") is True
    assert can_be_repaired(Venue(), "ticker") is False


def test_where_nobody_can_tell_it_is_not_known():
    assert can_be_repaired(None, "trade") is None
    assert can_be_repaired(Venue(), "broken") is None


def test_kalshi_tells_of_its_channels_without_settings():
    feed = Parsers(Registry(PluginIndex.installed())).parser("kalshi").feed
    assert can_be_repaired(feed, "trade") is True
    assert can_be_repaired(feed, "ticker") is False
