"""One connection that serves both protocol eras, each request in its own.

The SDK's loop settles the era with the first request and refuses the other from then on. Some clients probe with
`server/discover` and then send `initialize` on the same pipe: they would be told that this server can't talk to them.
Here a request with the 2026-07-28 envelope is served as such, everything else by the handshake's rules, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner, aclose_shielded, modern_on_request
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.message import SessionMessage
from mcp.shared.transport_context import TransportContext
from mcp.types import PROTOCOL_VERSION_META_KEY

from ..tools.spec import Opened
from .lines import RefusedLineError

Params = Mapping[str, Any] | None
Call = DispatchContext[TransportContext]


async def serve_both_eras(
    server: Server[Opened],
    read_stream: ReadStream[SessionMessage | Exception],
    write_stream: WriteStream[SessionMessage],
) -> None:
    """Serve one client until it closes its side. Calls in flight are cancelled then."""
    # `initialize` inline: a client may send the next request with it, and must find the handshake done.
    dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
        read_stream, write_stream, inline_methods=frozenset({"initialize"})
    )

    async def say_malformed(error: Exception) -> None:
        if isinstance(error, RefusedLineError):
            await write_stream.send(SessionMessage(error.answer))

    dispatcher.on_stream_exception = say_malformed
    async with server.lifespan(server) as opened:
        connection = Connection.for_loop(dispatcher)
        handshake = ServerRunner(server, connection, opened)
        stateless = modern_on_request(server, opened)

        async def on_request(call: Call, method: str, params: Params) -> dict[str, Any]:
            if method == "initialize" or not _has_envelope(params):
                return await handshake.on_request(call, method, params)
            route = classify_inbound_request({"method": method, "params": params})
            if isinstance(route, InboundLadderRejection):
                raise MCPError(code=route.code, message=route.message, data=route.data)
            return await stateless(call, method, params)

        try:
            # Notifications from the client belong to the handshake's era: the other has none but cancellation, which
            # the dispatcher handles itself.
            await dispatcher.run(on_request, handshake.on_notify)
        finally:
            await aclose_shielded(connection)


def _has_envelope(params: Params) -> bool:
    """Whether the request carries the 2026-07-28 envelope; its version key is enough to be judged by its rules."""
    meta = (params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in cast("Mapping[str, object]", meta)
