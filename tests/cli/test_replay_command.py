import pytest

FILES = ("--feed", "feed.yaml", "--env", "env.yaml")
NATS_ENV = """\
name: lab
feed: acme
schema: "trade:v1"
transport:
  transport_type: nats
  url: nats://127.0.0.1:1
"""
LINE = (
    '{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"acme","data":'
    '{"type":"trade","channel":"trades","seq":1,"market":"GOLD","ns":1795000000000000000,'
    '"price":"12.50","quantity":"3","side":"buy","trade":"t1"}}\n'
)


@pytest.fixture
def archive(world):
    """A day of an archive beside the files, which name a bus that is not there."""
    world.write((world.folder / "feed.yaml").read_text(), NATS_ENV)
    day = world.folder / "data" / "2026-11-22"
    day.mkdir(parents=True)
    (day / "acme.jsonl").write_text(LINE)
    (world.folder / "data" / ".acme.connector").write_text("c1\n")
    return world


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--speed", "fast"), "--speed `fast` is no speed; write max, or a factor as 1x"),
        (("--from", "noon"), "--from `noon` is no time; write a date as 2026-11-22"),
        (("--to", "2026-13-01"), "--to `2026-13-01` is no time"),
        (("--from", "2026-11-22", "--to", "2026-11-21"), "nothing lies between --from"),
        (("--from", "2026-11-23"), "has acme from 2026-11-22 to 2026-11-22, nothing between"),
    ],
)
def test_options_that_make_no_sense_are_faults_of_usage(archive, options, said):
    code, out, err = archive.call("replay", "data", *FILES, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_an_environment_that_publishes_nothing_is_refused_and_says_what_is_needed(world):
    code, _, err = world.call("replay", "data", *FILES)
    assert code == 2
    assert "the transport memory publishes nothing" in err
    assert "transport_type: nats" in err


def test_a_place_without_an_archive_is_refused(archive):
    code, _, err = archive.call("replay", "nowhere", *FILES)
    assert code == 2
    assert "no archive at nowhere" in err


def test_a_url_of_a_kind_that_nobody_provides_is_refused(archive):
    code, _, err = archive.call("replay", "tape://reel/7", *FILES)
    assert code == 2
    assert "nobody provides the storage type `tape`" in err


def test_an_archive_of_another_feed_is_refused_and_says_what_it_holds(archive):
    (archive.folder / "data" / "2026-11-22" / "acme.jsonl").rename(
        archive.folder / "data" / "2026-11-22" / "kalshi.jsonl"
    )
    code, _, err = archive.call("replay", "data", *FILES)
    assert code == 2
    assert "holds no frames of acme; feeds that it has: kalshi" in err


def test_a_feed_that_cannot_parse_offline_needs_its_credentials(archive):
    code, _, err = archive.call("replay", "data", *FILES, ACME_TOKEN="")
    assert code == 2
    assert "ACME_TOKEN is not set" in err


@pytest.mark.parametrize("options", [(), ("--diff",), ("--into-live",)])
def test_a_bus_that_cannot_be_reached_is_refused_at_once(archive, options):
    code, out, err = archive.call("replay", "data", *FILES, *options)
    assert (code, out) == (2, "")
    assert "127.0.0.1:1" in err


def test_a_bus_that_cannot_be_read_is_entered_only_when_told_so(archive):
    archive.install(
        "ssmd-deaf",
        {"ssmd.transports": {"deaf": "ssmd_deaf"}},
        """
        from pydantic import BaseModel
        from ssmd_core.plugins import TransportType, hookimpl
        from ssmd_core.sink import Transport

        class Deaf(Transport):
            def __init__(self, context): self.metrics = context.metrics
            def room(self): return 100
            def publish(self, messages):
                for message in messages:
                    print(message.msg_id, message.origin)
                self.metrics.published += len(messages)
            def oldest_unacked(self): return None
            async def flush(self): pass

        class Config(BaseModel):
            pass

        @hookimpl
        def ssmd_transports():
            yield TransportType(
                name="deaf", api_version=1, config=Config, open=lambda context, _: Deaf(context)
            )
        """,
    )
    feed = (archive.folder / "feed.yaml").read_text()
    archive.write(feed, 'name: lab\nfeed: acme\nschema: "trade:v1"\ntransport: {type: deaf}\n')
    refused = archive.call("replay", "data", *FILES)
    assert refused.code == 2
    assert "the transport deaf cannot be read" in refused.err
    assert "say --into-live" in refused.err
    code, out, _ = archive.call("replay", "data", *FILES, "--into-live")
    assert code == 0
    assert "acme:trade:t1 replay\n" in out
    compared = archive.call("replay", "data", *FILES, "--diff")
    assert compared.code == 2
    assert "the transport deaf cannot be read afterwards" in compared.err
