import contextlib
import socket

import anyio
import pytest

from rig.loops import LOOPS
from ssmd_core.feed.reach import Address, alternating, reach, resolve

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOOPS)
def anyio_backend(request):
    return request.param


@contextlib.contextmanager
def listening():
    """Yield an address of IPv4 that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Address(socket.AF_INET, server.getsockname())


@contextlib.contextmanager
def silent():
    """Yield an address that neither takes nor refuses: its queue is full."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as held,
    ):
        for _ in range(2):
            client = held.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(server.getsockname())
        yield Address(socket.AF_INET, server.getsockname())


def closed():
    """Return an address that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Address(socket.AF_INET, server.getsockname())


async def reached(*addresses):
    with anyio.fail_after(10):
        return await reach(addresses)


async def test_the_first_address_that_answers_is_taken():
    with listening() as first, listening() as second, await reached(first, second) as sock:
        assert sock.getpeername() == first.sockaddr


async def test_an_address_that_refuses_is_passed_over():
    with listening() as second, await reached(closed(), second) as sock:
        assert sock.getpeername() == second.sockaddr


async def test_an_address_that_is_silent_does_not_keep_the_next_one_waiting():
    with silent() as first, listening() as second, await reached(first, second) as sock:
        assert sock.getpeername() == second.sockaddr


async def test_every_refusal_is_told():
    first, second = closed(), closed()
    with pytest.raises(OSError, match=f"{first.sockaddr[1]}.*{second.sockaddr[1]}"):
        await reached(first, second)


async def test_a_name_without_addresses_is_a_fault():
    with pytest.raises(OSError, match="no address"):
        await reached()


async def test_a_cancelled_attempt_leaves_no_socket_behind():
    with silent() as address, anyio.move_on_after(0.05) as scope:
        await reach([address])
    assert scope.cancelled_caught


async def test_a_name_is_resolved_into_addresses_with_the_port():
    assert Address(socket.AF_INET, ("127.0.0.1", 9)) in await resolve("127.0.0.1", 9)


def test_families_take_turns():
    four, six = socket.AF_INET, socket.AF_INET6
    found = [Address(six, 1), Address(six, 2), Address(six, 3), Address(four, 4)]
    assert [address.sockaddr for address in alternating(found)] == [1, 4, 2, 3]
