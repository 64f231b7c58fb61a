"""Decides what becomes of the answer to a plain HTTP request: the faults of a REST side."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from ssmd_core.testing.face import Answer

__all__ = ["RequestFaults"]


@dataclass(slots=True)
class RequestFaults:
    """What is to go wrong with the next requests, in the order failing, garbled, cut."""

    failing: deque[int] = field(default_factory=deque)
    """Statuses of the next answers."""
    garbled: int = 0
    """How many answers end in the middle of their body, as if that were all."""
    cut: int = 0
    """How many connections are reset in the middle of the body."""
    delay_seconds: float = 0.0

    def failure(self) -> Answer | None:
        """Return what is answered without asking the face, if the next answer is to fail."""
        if not self.failing:
            return None
        return Answer(b'{"error":"as asked"}', status=self.failing.popleft())

    def spoil(self, answer: Answer) -> tuple[Answer, bool]:
        """Return the face's answer as it is to be given, and whether it is cut in the middle."""
        if self.garbled:
            self.garbled -= 1
            return replace(answer, body=answer.body[: len(answer.body) // 2]), False
        if self.cut:
            self.cut -= 1
            return answer, True
        return answer, False
