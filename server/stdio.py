"""Serve one client over standard input and output, for as long as it lives.

Nothing is kept in this process: it may end at any moment, and does within a second of its client.
"""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .leave import Leaving
from .wire import Wire, take_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..tools.spec import Opened, ToolSpec
    from .app import ModelTrainerServer


def serve(workspace: Path | None, tools: Sequence[ToolSpec] | None = None) -> int:
    """Serve until the client is gone; ends the process itself, the code is 0. `tools` is our table where not given.

    The collector is off while modules load: it would walk a growing heap of lasting objects again and again
    (a sixth of the start). Logging is set up first because the SDK's own set-up takes seconds to format a traceback.
    """
    gc.disable()
    wire = take_wire()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    leaving = Leaving()

    import anyio

    from ..tools import TOOLS
    from .app import build_server, try_open_app

    opened = try_open_app(workspace)
    server = build_server(opened, TOOLS if tools is None else tools)
    gc.freeze()
    gc.enable()
    anyio.run(_converse, server, opened, wire, leaving)
    leaving.now()


async def _converse(server: ModelTrainerServer, opened: Opened, wire: Wire, leaving: Leaving) -> None:
    from functools import partial

    import anyio
    import anyio.to_thread
    from anyio.lowlevel import current_token

    from ..services.app import App
    from ..services.runs.restarting import restart_interrupted
    from .eras import serve_both_eras
    from .wire import streams

    token = current_token()
    with anyio.CancelScope() as scope:
        leaving.on_leave(lambda: anyio.from_thread.run_sync(scope.cancel, token=token))
        async with streams(wire, leaving.input_ended) as (incoming, outgoing), anyio.create_task_group() as group:
            if isinstance(opened, App):
                # In a thread that the end of the process need not wait for: a supervisor that it is about to start
                # either stands, or leaves the run for the next server.
                restart = partial(restart_interrupted, opened)
                group.start_soon(partial(anyio.to_thread.run_sync, restart, abandon_on_cancel=True))
            await serve_both_eras(server.protocol, incoming, outgoing)
            group.cancel_scope.cancel()
