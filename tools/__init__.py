"""The tools that agents see, in one explicit table; one thin module per tool.

A tool takes typed arguments, calls one service and returns one `Result`. It has no I/O and no `try` of its own: the
error boundary and the strict argument checks stand in `server`.
"""

from .get_run import get_run
from .launch_run import launch_run
from .list_runs import list_runs
from .spec import ToolSpec
from .tail_metrics import tail_metrics

#: In the order in which work goes; agents see them in this order.
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(launch_run, "Launch run", destructive=False, open_world=True),
    ToolSpec(get_run, "Get run", read_only=True, idempotent=True),
    ToolSpec(list_runs, "List runs", read_only=True, idempotent=True),
    ToolSpec(tail_metrics, "Tail metrics", read_only=True, idempotent=True),
)
