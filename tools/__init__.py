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
from .plot_metrics import plot_metrics
from .push_adapter import push_adapter
from .resume_run import resume_run
from .sample_model import sample_model
from .spec import ToolSpec
from .stop_run import stop_run
from .tail_logs import tail_logs
from .tail_metrics import tail_metrics
from .write_config import write_config

#: In the order in which work goes; agents see them in this order.
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(check_environment, "Check environment", read_only=True, idempotent=True),
    ToolSpec(inspect_dataset, "Inspect dataset", read_only=True, idempotent=True, open_world=True),
    ToolSpec(plan_training, "Plan training", open_world=True),
    ToolSpec(write_config, "Write config", destructive=True, idempotent=True),
    ToolSpec(launch_run, "Launch run", open_world=True),
    ToolSpec(list_runs, "List runs", read_only=True, idempotent=True),
    ToolSpec(get_run, "Get run", read_only=True, idempotent=True),
    ToolSpec(tail_metrics, "Tail metrics", read_only=True, idempotent=True),
    ToolSpec(tail_logs, "Tail logs", read_only=True, idempotent=True),
    ToolSpec(plot_metrics, "Plot metrics", read_only=True, idempotent=True),
    ToolSpec(stop_run, "Stop run", destructive=True, idempotent=True),
    ToolSpec(resume_run, "Resume run", open_world=True),
    ToolSpec(sample_model, "Sample model", read_only=True, open_world=True),
    ToolSpec(push_adapter, "Push adapter", destructive=True, idempotent=True, open_world=True),
)
