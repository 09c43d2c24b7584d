"""The tools that agents see, in one explicit table; one thin module per tool.

A tool takes typed arguments, calls one service and returns one `Result`. It has no I/O and no `try` of its own: the
error boundary and the strict argument checks stand in `server`.
"""

from .check_environment import check_environment
from .get_run import get_run
from .inspect_dataset import inspect_dataset
from .launch_run import launch_run
from .list_runs import list_runs
from .plan_training import plan_training
from .spec import ToolSpec
from .tail_metrics import tail_metrics
from .write_config import write_config

#: In the order in which work goes; agents see them in this order.
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(check_environment, "Check environment", read_only=True, idempotent=True),
    ToolSpec(inspect_dataset, "Inspect dataset", read_only=True, idempotent=True, open_world=True),
    ToolSpec(plan_training, "Plan training", idempotent=False, open_world=True),
    ToolSpec(write_config, "Write config", destructive=True, idempotent=True),
    ToolSpec(launch_run, "Launch run", destructive=False, open_world=True),
    ToolSpec(get_run, "Get run", read_only=True, idempotent=True),
    ToolSpec(list_runs, "List runs", read_only=True, idempotent=True),
    ToolSpec(tail_metrics, "Tail metrics", read_only=True, idempotent=True),
)
