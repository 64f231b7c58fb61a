"""Which streams serve, and the command that mends it when none does."""

from __future__ import annotations

import msgspec
import pytest

from ssmd_sink_nats.protocol import Reply
from ssmd_sink_nats.streams import Plan, Stream, Verdict, judge, look
from ssmd_sink_nats.subjects import wanted_subjects

URL = "nats://bus:4222"
WANTED = wanted_subjects("prod", "kalshi", {"trade", "ticker"})
GUIDE = (
    'nats stream add PROD_KALSHI --subjects "prod.kalshi.>" --retention limits '
    "--max-age 1h --storage file --replicas 1 --discard old --defaults -s nats://bus:4222"
)

pytestmark = pytest.mark.anyio


def plan(**fields) -> Plan:
    return Plan(root="prod.kalshi", wanted=WANTED, **fields)


@pytest.mark.parametrize(
    "streams",
    [
        [Stream("PROD_KALSHI", ("prod.kalshi.>",))],
        [Stream("EVERYTHING", ("prod.>",))],
        [
            Stream("A", ("prod.kalshi.trade.>",)),
            Stream("B", ("prod.kalshi.ticker.>", "prod.*.status")),
        ],
    ],
)
def test_any_streams_that_take_it_all_serve(streams):
    assert judge(plan(), streams, URL).verdict is Verdict.COVERED


def test_without_a_stream_the_guides_command_is_named():
    finding = judge(plan(), [], URL)
    assert finding.verdict is Verdict.UNCOVERED
    assert finding.reason.endswith(GUIDE)


def test_a_stream_for_some_kinds_only_is_a_fault_and_the_rest_is_named():
    finding = judge(plan(), [Stream("PROD_KALSHI", ("prod.kalshi.trade.>",))], URL)
    assert finding.verdict is Verdict.UNCOVERED
    assert "PROD_KALSHI takes prod.kalshi.trade.>" in finding.reason
    assert 'nats stream edit PROD_KALSHI --subjects "prod.kalshi.>"' in finding.reason
    assert (
        'nats stream add PROD_KALSHI_MORE --subjects "prod.kalshi.ticker.>,prod.kalshi.status"'
        in finding.reason
    )


def test_a_stream_that_does_not_acknowledge_does_not_serve():
    finding = judge(plan(), [Stream("S", ("prod.>",), no_ack=True)], URL)
    assert finding.verdict is Verdict.UNCOVERED
    assert "no_ack" in finding.reason


def test_a_named_stream_must_take_it_all_itself():
    other = Stream("OTHER", ("prod.>",))
    assert judge(plan(only="OTHER"), [other], URL).verdict is Verdict.COVERED
    finding = judge(plan(only="MINE"), [other], URL)
    assert finding.verdict is Verdict.UNCOVERED
    assert "OTHER takes prod.>" in finding.reason
    assert "transport.stream" in finding.reason
    assert "nats stream add MINE" in judge(plan(only="MINE"), [], URL).reason


class Api:
    """A JetStream API from a table; what it is not told of is not there."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    async def __call__(self, subject: str, payload: bytes) -> Reply:
        self.asked.append(subject)
        answer = self.answers.get(subject.rpartition("API.")[2].replace(".", "_"))
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return Reply(1, 503, b"")
        return Reply(1, 0, msgspec.json.encode(answer))


def error(code: int, err_code: int) -> dict:
    return {"error": {"code": code, "err_code": err_code, "description": "so it is"}}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (None, Verdict.UNUSABLE),
        (error(503, 10039), Verdict.UNUSABLE),
        (error(503, 10008), Verdict.UNAVAILABLE),
        (error(400, 10001), Verdict.UNCOVERED),
        (TimeoutError(), Verdict.UNAVAILABLE),
        (ConnectionError("cut"), Verdict.UNAVAILABLE),
        (PermissionError("no"), Verdict.UNSEEN),
        ("nonsense", Verdict.UNAVAILABLE),
        ({"streams": None}, Verdict.UNCOVERED),
        ({"streams": []}, Verdict.UNCOVERED),
    ],
)
async def test_what_the_api_says_or_fails_to_say_is_a_finding(answer, verdict):
    finding = await look(Api(STREAM_NAMES=answer), plan(), URL)
    assert finding.verdict is verdict
    assert URL in finding.reason


async def test_the_domain_is_part_of_every_request():
    api = Api(STREAM_NAMES={"streams": []})
    await look(api, plan(domain="hub"), URL)
    assert api.asked == ["$JS.hub.API.STREAM.NAMES"]


async def test_a_stream_is_created_only_where_none_touches_ours():
    made = {"config": {"name": "PROD_KALSHI", "subjects": ["prod.kalshi.>"]}}
    api = Api(STREAM_NAMES={"streams": []}, STREAM_CREATE_PROD_KALSHI=made)
    assert (await look(api, plan(create=True), URL)).verdict is Verdict.COVERED
    there = {"config": {"name": "T", "subjects": ["prod.kalshi.trade.>"]}}
    api = Api(STREAM_NAMES={"streams": ["T"]}, STREAM_INFO_T=there)
    assert (await look(api, plan(create=True), URL)).verdict is Verdict.UNCOVERED
    assert not [subject for subject in api.asked if "CREATE" in subject]


async def test_a_refused_creation_says_why():
    api = Api(STREAM_NAMES={"streams": []}, STREAM_CREATE_PROD_KALSHI=error(400, 10026))
    finding = await look(api, plan(create=True), URL)
    assert finding.verdict is Verdict.UNCOVERED
    assert "so it is (10026)" in finding.reason
