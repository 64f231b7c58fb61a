"""The recorder that a user writes first: read, parse, write a line, flush."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from websockets.asyncio.client import connect

from benchmarks.contenders.common import SUBSCRIBE


async def main(url: str, archive: Path) -> None:
    day = archive / datetime.now(UTC).strftime("%Y-%m-%d")
    day.mkdir(parents=True)
    async with connect(url) as socket:
        await socket.send(SUBSCRIBE)
        with (day / "kalshi.jsonl").open("w", encoding="utf-8") as file:
            async for frame in socket:
                message = json.loads(frame)
                if "type" not in message:
                    continue
                now = datetime.now(UTC).isoformat()
                file.write(f'{{"ts":"{now}","feed":"kalshi","data":{frame!s}}}\n')
                file.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
