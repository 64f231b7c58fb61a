"""Decides whether a bus holds what the archive would publish: each id once, and no other."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from ssmd_core.audit.declared import Declared
from ssmd_core.audit.events import Event
from ssmd_core.audit.findings import Finding, Findings, Kind, counted
from ssmd_core.audit.holdings import EXPECTED, LATE, STORED, Example, Holdings, Tally
from ssmd_core.audit.sessions import Session
from ssmd_core.clock import day_of, iso
from ssmd_core.errors import SsmdError
from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.plugins.registry import Registry
from ssmd_core.records import Batch
from ssmd_core.sink import Encoder
from ssmd_core.sink.bus import StoredMessage

__all__ = ["BusTotals", "Comparison"]

_ORIGIN = "replay"
"""So that the encoding leaves nothing out: what was fetched twice is one id to us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusTotals:
    """What the comparison of one feed counted."""

    feed: str
    environment: str
    after: int
    upto: int
    """Receipt times between which it compared: ``after < ts <= upto``."""
    stored: int
    """Messages that the bus holds of the feed, of any time."""
    expected: int
    """Distinct ids that the archive would publish."""
    missing: Tally
    extra: Tally
    duplicates: Tally
    disordered: Tally


class Comparison:
    """Is told of every frame and ledger line of the archive while it is read.

    Args:
        feed: its name.
        environment: whose messages the holdings are.
        holdings: what the bus holds, read before.
        registry: finds the schemas.
        connector: the id kept with the archive: for sessions that do not tell theirs.
    """

    def __init__(
        self,
        feed: str,
        environment: str,
        holdings: Holdings,
        registry: Registry,
        *,
        connector: str = "",
    ) -> None:
        self.feed = feed
        self.environment = environment
        self.holdings = holdings
        self.expected = 0
        self.behind = 0
        """Messages that the archive holds beyond what the bus is known to have taken."""
        self._registry = registry
        self._default = connector
        self._connector = connector
        self._encoders: dict[str, Encoder | None] = {}
        self._encodings: dict[tuple[str, str], Encoding] = {}
        self._missing = Tally()
        self._missing_ts = array("Q")
        self._extra = Tally()
        self._problems: dict[str, None] = {}
        self._connectors: set[str] = set()

    # ── what the archive holds ───────────────────────────────────────────────────

    def on_frames(self, batch: Batch, parsed: list[Parsed], session: Session | None) -> None:
        """Take a batch and what its frames say."""
        if batch.last_ts < self.holdings.after:
            return
        if session is not None and session.environment not in {"", self.environment}:
            return
        connector = (session.connector if session else "") or self._default
        encoding = self._encoding(self.holdings.schema_at(batch.first_ts), connector)
        if encoding is not None:
            for message in encoding.messages(batch, parsed, _ORIGIN):
                self._expect(message.msg_id, message.ts)

    def on_line(self, event: Event) -> None:
        """Take a ledger line, in order."""
        if event.word in {"session_opened", "session_carried"} and event.text("connector"):
            self._connector = event.text("connector")
        if self._connector and event.ts >= self.holdings.after:
            self._connectors.add(self._connector)
            self._expect(f"{self.feed}:{self._connector}:{event.ts}", event.ts)

    def _expect(self, msg_id: str, ts: int) -> None:
        holdings = self.holdings
        compared = holdings.after < ts <= holdings.upto
        if not compared and ts > holdings.upto:
            self.behind += 1
        had = holdings.table.get(msg_id)
        if had & EXPECTED or not (compared or had & STORED):
            return
        holdings.table.add(msg_id, EXPECTED)
        self.expected += compared
        if compared and not had & STORED:
            self._missing_ts.append(ts)
            self._missing.note(Example(msg_id, "", ts))

    def _encoding(self, label: str, connector: str) -> Encoding | None:
        if not connector:
            self._problems["the archive does not tell its connector's id"] = None
            return None
        encoding = self._encodings.get((label, connector))
        if encoding is None and (encoder := self._encoder(label)) is not None:
            self._connectors.add(connector)
            encoding = Encoding(encoder, self.feed, connector, Metrics())
            self._encodings[label, connector] = encoding
        return encoding

    def _encoder(self, label: str) -> Encoder | None:
        if label not in self._encoders:
            self._encoders[label] = None
            if not label:
                self._problems["it holds no record that tells its schema"] = None
                return None
            try:
                self._encoders[label] = self._registry.schema(label).open(Metrics())
            except SsmdError as error:
                self._problems[str(error)] = None
        return self._encoders[label]

    # ── the end ──────────────────────────────────────────────────────────────────

    @property
    def has_extras(self) -> bool:
        """Whether the bus holds ids that the archive does not: look at it again to name them."""
        known = STORED | EXPECTED | LATE
        return any(flags & known == STORED for flags in self.holdings.table.flags())

    def take_extras(self, messages: Sequence[StoredMessage]) -> None:
        """Take the messages a second time, and name those that the archive does not explain."""
        others, head = self._others(), f"{self.feed}:"
        for message in messages:
            if self.holdings.table.get(message.msg_id) != STORED:
                continue
            writer = message.msg_id.removeprefix(head).partition(":")[0]
            if writer not in others:
                self._extra.note(Example(message.msg_id, message.subject, message.ts))

    def judge(self, declared: Declared, findings: Findings, *, unread: bool) -> BusTotals:
        """Tell what differs, and return what was counted.

        Args:
            declared: what the ledger says of messages that were given up.
            findings: where it goes.
            unread: no plugin could read some frames, so nobody knows what they would publish.
        """
        held, others = self.holdings, self._others()
        excused = sum(map(declared.excuses_message, self._missing_ts))
        left = self._missing.count - excused
        excused += min(left, declared.unsent_messages)
        if unread:
            self._problems["some frames could not be read"] = None
        for problem in self._problems:
            text = f"the bus is not wholly compared: {problem}"
            findings.add(self._finding(Kind.BUS_UNCHECKED, text, explained=True))
        if others:
            text = f"other connectors publish there, too: {', '.join(sorted(others)[:3])}"
            findings.add(self._finding(Kind.BUS_FOREIGN, text, explained=True))
        if self.behind:
            text = (
                f"{counted(self.behind, 'message')} not compared: the bus is known to have taken "
            )
            text += f"the archive up to {iso(held.upto)}"
            findings.add(self._finding(Kind.BUS_BEHIND, text, explained=True))
        if excused:
            text = f"{counted(excused, 'message')} missing, and declared as dropped"
            findings.add(self._finding(Kind.BUS_DECLARED, text, explained=True))
        for kind, found, what, explained in (
            (Kind.BUS_MISSING, self._missing, "missing", excused == self._missing.count),
            (
                Kind.BUS_EXTRA,
                self._extra,
                "in no frame of the archive",
                bool(self._problems or others),
            ),
            (Kind.BUS_DUPLICATE, held.duplicates, "stored again", False),
            (Kind.BUS_DISORDER, held.disordered, "behind a later one of the subject", bool(others)),
        ):
            if found.count and not (explained and kind is Kind.BUS_MISSING):
                text = f"{counted(found.count, 'message')} {what}: {found.shown()}"
                findings.add(self._finding(kind, text, found.examples, explained=explained))
        return BusTotals(
            feed=self.feed,
            environment=self.environment,
            after=held.after,
            upto=held.upto,
            stored=held.messages,
            expected=self.expected,
            missing=self._missing,
            extra=self._extra,
            duplicates=held.duplicates,
            disordered=held.disordered,
        )

    def _others(self) -> set[str]:
        """Return the ids of connectors that are not those of the archive."""
        return set(self.holdings.writers) - self._connectors - {self._default}

    def _finding(
        self, kind: Kind, text: str, examples: Sequence[Example] = (), *, explained: bool
    ) -> Finding:
        times = [each.ts for each in examples if each.ts] or [self.holdings.upto]
        return Finding(
            kind=kind,
            explained=explained,
            day=day_of(times[0]),
            feed=self.feed,
            text=text,
            from_ts=min(times),
            to_ts=max(times),
        )
