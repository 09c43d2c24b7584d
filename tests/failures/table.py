"""The whole table; a new tool's rows are added here."""

from __future__ import annotations

from .common import common_rows
from .config_rows import CONFIG_ROWS
from .data_rows import DATA_ROWS
from .hub_rows import HUB_ROWS
from .planning_rows import PLANNING_ROWS
from .publishing_rows import PUBLISHING_ROWS
from .row import Row
from .run_rows import RUN_ROWS

ROWS: tuple[Row, ...] = (
    *common_rows(),
    *DATA_ROWS,
    *HUB_ROWS,
    *PLANNING_ROWS,
    *CONFIG_ROWS,
    *RUN_ROWS,
    *PUBLISHING_ROWS,
)
