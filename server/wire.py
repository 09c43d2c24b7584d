"""Standard input and output as the protocol's two streams, out of reach of everything else in the process.

The SDK's own transport can't be cancelled while it waits for a line, so it can't leave on a signal; this one can.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage


@dataclass(frozen=True)
class Wire:
    """Private copies of descriptors 0 and 1."""

    reader: BinaryIO
    writer: BinaryIO


def take_wire() -> Wire:
    """Take the wire before anything else can print: descriptor 1 becomes stderr, descriptor 0 an empty file.

    Children inherit those, so neither a stray print nor a child that reads its input touches the protocol.
    """
    wire = Wire(
        reader=os.fdopen(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3), "rb"),
        writer=os.fdopen(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3), "wb", buffering=0),
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return wire


@asynccontextmanager
async def streams(
    wire: Wire, on_end: Callable[[], None]
) -> AsyncGenerator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """The wire as message streams; `on_end` is called from a thread as soon as either side is gone."""
    import anyio
    import anyio.from_thread
    import anyio.to_thread
    from mcp.shared._context_streams import create_context_streams
    from mcp.shared.message import SessionMessage

    from .lines import read_messages, write_message

    into, incoming = create_context_streams[SessionMessage | Exception](0)
    outgoing, out_of = create_context_streams[SessionMessage](0)

    def pump() -> None:
        for message in read_messages(wire.reader):
            anyio.from_thread.run(into.send, message)
        on_end()

    async def read() -> None:
        async with into:
            # Its own limiter: the reader never gives its thread back, tools' threads must not wait for it.
            await anyio.to_thread.run_sync(pump, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))

    def put(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[wire.writer.write(view) :]

    async def write() -> None:
        limiter = anyio.CapacityLimiter(1)
        async with out_of:
            async for message in out_of:
                try:
                    await anyio.to_thread.run_sync(put, write_message(message), abandon_on_cancel=True, limiter=limiter)
                except OSError:  # the client is gone; so are we
                    on_end()
                    return

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(write)
        yield incoming, outgoing
        group.cancel_scope.cancel()
