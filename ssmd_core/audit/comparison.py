"""Decides whether a bus holds what the archive would publish: each id once, and no other."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
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
from ssmd_core.records import Batch, Stream
from ssmd_core.sink import Encoder
from ssmd_core.sink.bus import StoredMessage
from ssmd_core.sink.origin import Origin

__all__ = ["BusTotals", "Comparison"]

_FOREVER = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class BusTotals:
    """What the comparison of one feed counted."""

    feed: str
    environment: str
    after: int
    upto: int
    """Receipt times between which it compared. Of the first the bus may hold only a part."""
    stored: int
    """Messages that the bus holds of the feed, of any time."""
    expected: int
    """Distinct ids that the archive would publish."""
    older: int
    """Records received live, and ledger lines, of before the first message that the bus holds."""
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
        lags: whether the bus gets messages before the archive their frames, as where closed
            parts are uploaded.
    """

    def __init__(
        self,
        feed: str,
        environment: str,
        holdings: Holdings,
        registry: Registry,
        *,
        connector: str = "",
        lags: bool = False,
    ) -> None:
        self.feed = feed
        self.environment = environment
        self.holdings = holdings
        if not holdings.begun:
            # All of the archive is older than what it holds: nothing.
            holdings.after = _FOREVER
        self.expected = 0
        self.behind = 0
        """Messages that the archive holds beyond what the bus is known to have taken."""
        self.older_records = 0
        self.older_lines = 0
        self._registry = registry
        self._default = connector
        self._connector = connector
        self._encoders: dict[str, Encoder | None] = {}
        self._encodings: dict[tuple[str, str], Encoding] = {}
        self._missing = Tally()
        self._missing_ts = array("Q")
        self._extra = Tally()
        self._lags = lags
        self._last_ts = 0
        """Receipt time of the last live frame in the archive."""
        self._unarchived = 0
        self._problems: dict[str, None] = {}
        self._connectors: set[str] = set()

    # ── what the archive holds ───────────────────────────────────────────────────

    def on_frames(self, batch: Batch, parsed: list[Parsed], session: Session | None) -> None:
        """Take a batch and what its frames say."""
        if batch.stream is Stream.LIVE:
            self._last_ts = max(self._last_ts, batch.last_ts)
        if session is not None and session.environment not in {"", self.environment}:
            return
        if batch.last_ts < self.holdings.after:
            self._pass_over(batch, parsed)
            return
        connector = (session.connector if session else "") or self._default
        encoding = self._encoding(self.holdings.schema_at(batch.first_ts), connector)
        if encoding is not None:
            for message in encoding.messages(batch, parsed, Origin.REPLAY):
                self._expect(message.msg_id, message.ts)

    def on_line(self, event: Event) -> None:
        """Take a ledger line, in order."""
        if event.word in {"session_opened", "session_carried"} and event.text("connector"):
            self._connector = event.text("connector")
        if event.ts < self.holdings.after:
            self.older_lines += 1
        elif self._connector:
            self._connectors.add(self._connector)
            self._expect(f"{self.feed}:{self._connector}:{event.ts}", event.ts)

    def _pass_over(self, batch: Batch, parsed: list[Parsed]) -> None:
        """Count what is older than all that the bus holds: encoding it would cost too much."""
        if batch.stream is Stream.REST:
            return  # much of it came live as well
        encoder = (
            self._encoder(self.holdings.schema_at(batch.first_ts)) if self.holdings.begun else None
        )
        for said in parsed:
            for record in said.records:
                self.older_records += encoder is None or record.kind in encoder.kinds

    def _expect(self, msg_id: str, ts: int) -> None:
        holdings = self.holdings
        if ts < holdings.after:
            self.older_records += 1
            return
        compared = holdings.after < ts <= holdings.upto
        if not compared and ts > holdings.upto:
            self.behind += 1
        had = holdings.table.get(msg_id)
        if had & EXPECTED or not (compared or had & STORED):
            return
        holdings.table.add(msg_id, EXPECTED)
        # Of the first frame it may have let go of some: what it holds is expected, no more.
        self.expected += compared or ts == holdings.after
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
            if self._lags and message.ts > self._last_ts:
                self._unarchived += 1
            elif writer not in others:
                self._extra.note(Example(message.msg_id, message.subject, message.ts))

    def judge(self, declared: Declared, findings: Findings, *, unread: bool) -> BusTotals | None:
        """Tell what differs, and return what was counted; None where nothing could be compared.

        Args:
            declared: what the ledger says of messages that were given up.
            findings: where it goes.
            unread: no plugin could read some frames, so nobody knows what they would publish.
        """
        held, others = self.holdings, self._others()
        if not held.begun:
            findings.add(self._finding(Kind.BUS_UNCHECKED, self._nothing_live(), explained=True))
            return None
        excused = sum(map(declared.excuses_message, self._missing_ts))
        left = self._missing.count - excused
        excused += min(left, declared.unsent_messages)
        if unread:
            self._problems["some frames could not be read"] = None
        for kind, text in self._notes(others, excused):
            findings.add(self._finding(kind, text, explained=True))
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
            older=self.older_records + self.older_lines,
            missing=self._missing,
            extra=self._extra,
            duplicates=held.duplicates,
            disordered=held.disordered,
        )

    def _notes(self, others: set[str], excused: int) -> Iterator[tuple[Kind, str]]:
        """Yield what is on record, or was not compared."""
        held = self.holdings
        for problem in self._problems:
            yield Kind.BUS_UNCHECKED, f"the bus is not wholly compared: {problem}"
        if others:
            text = f"other connectors publish there, too: {', '.join(sorted(others)[:3])}"
            yield Kind.BUS_FOREIGN, text
        if self.older_records or self.older_lines:
            text = f"{self._older()} are older than the first message that the bus holds"
            if held.first_place == 1:
                text += ", and that is the first its stream ever took: it was made, or made anew, "
                text += "after them"
            yield Kind.BUS_OLDER, f"{text}: not compared"
        if self.behind:
            text = f"{counted(self.behind, 'message')} not compared: the bus is known to have "
            yield Kind.BUS_BEHIND, text + f"taken the archive up to {iso(held.upto)}"
        if self._unarchived:
            text = (
                f"{counted(self._unarchived, 'message')} later than the last frame of the archive "
            )
            yield Kind.BUS_AHEAD, text + f"({iso(self._last_ts)}): not uploaded yet"
        if excused:
            text = f"{counted(excused, 'message')} missing, and declared as dropped"
            yield Kind.BUS_DECLARED, text

    def _older(self) -> str:
        records, lines = self.older_records, self.older_lines
        return f"{counted(records, 'record')} and {counted(lines, 'ledger line')} of the archive"

    def _nothing_live(self) -> str:
        held, name = self.holdings, self.feed
        if self.environment:
            name = f"{self.environment}.{self.feed}"
        if not held.messages:
            return f"the bus holds nothing of {name}: none of {self._older()}"
        of_replay = held.replayed == held.messages
        what = "replayed" if of_replay else "replayed, fetched or without their time"
        text = f"the bus holds only messages of {name} that are {what}, {held.messages:,} of them: "
        text += f"nothing to compare {self._older()} with"
        return text + ("; `ssmd replay --diff` compares a replay" if of_replay else "")

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
