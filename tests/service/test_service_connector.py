from types import SimpleNamespace

import pytest

from ssmd_core.config import ProcessSettings
from ssmd_core.errors import StorageFailed
from ssmd_core.service.connector import Connector
from ssmd_core.testing.fakes import MemoryStorage, WindowTransport

pytestmark = pytest.mark.anyio


class DyingStorage(MemoryStorage):
    async def aclose(self):
        raise StorageFailed("the disk died")


class ClosingTransport(WindowTransport):
    closed = False

    async def aclose(self):
        self.closed = True


async def test_an_archive_that_cannot_be_closed_keeps_nothing_else_open():
    plan = SimpleNamespace(storage_type="dying")
    connector = Connector(plan, ProcessSettings.read({}))
    connector._storage, connector._transport = DyingStorage(), ClosingTransport()
    fault = await connector._close()
    connector._stop.end()
    assert connector._transport.closed
    assert isinstance(fault, StorageFailed)
