"""An agent's client as a process of its own: starts a server by the command given, launches one run, and stays.

`client_driver.py CONFIG COMMAND…` prints the run's id and waits; when its stdin ends it closes the client properly.
"""

from __future__ import annotations

import os
import sys

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client


async def main(config: str, *server: str) -> None:
    parameters = StdioServerParameters(command=server[0], args=list(server[1:]), env=dict(os.environ))
    async with Client(stdio_client(parameters)) as client:
        answer = await client.call_tool("launch_run", {"config": config})
        assert answer.structured_content is not None
        os.write(1, f"{answer.structured_content['run_id']}\n".encode())
        await anyio.wait_readable(sys.stdin)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], *sys.argv[2:])
