"""For plugin authors: a venue on loopback that plays a session and misbehaves when told to."""

from ssmd_core.testing.face import Client, Face, Handshake, PlainFace, Refusal
from ssmd_core.testing.recording import Recording
from ssmd_core.testing.venue import Garbage, LoopbackVenue

__all__ = [
    "Client",
    "Face",
    "Garbage",
    "Handshake",
    "LoopbackVenue",
    "PlainFace",
    "Recording",
    "Refusal",
]
