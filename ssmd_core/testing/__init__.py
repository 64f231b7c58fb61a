"""For plugin authors: a venue and a bus on loopback, which misbehave when told to."""

from ssmd_core.testing.face import Answer, Client, Face, Handshake, PlainFace, Refusal
from ssmd_core.testing.nats_server import NatsServer, find_nats_server
from ssmd_core.testing.recording import Recording
from ssmd_core.testing.venue import Garbage, LoopbackVenue
from ssmd_core.testing.waiting import until

__all__ = [
    "Answer",
    "Client",
    "Face",
    "Garbage",
    "Handshake",
    "LoopbackVenue",
    "NatsServer",
    "PlainFace",
    "Recording",
    "Refusal",
    "find_nats_server",
    "until",
]
