"""Draw curves as a PNG: `python -m model_trainer.services.drawing`, a child of the server.

Reads one JSON object on stdin (see `plotting.py`, which writes it) and writes the file that it names. A process of its
own, because matplotlib takes a second and 60 MB that a server which lives for days must not keep.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

#: Okabe and Ito's colours, which most colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK = "#333333"
_BAD = "#C00000"

#: Points up to which each is marked.
_FEW = 40

#: Runs side by side in the legend.
_COLUMNS = 5

#: Greatest over least value from which an axis is logarithmic: more than two decades.
_DECADES = 100.0


def main() -> None:
    """Draw what stdin asks for."""
    asked = json.load(sys.stdin)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"font.size": 10, "axes.edgecolor": "#999999", "text.color": _INK, "axes.labelcolor": _INK})
    mpl.rcParams.update(
        {"xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False}
    )
    panels: list[dict[str, Any]] = asked["panels"]
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    figure: Any = Figure(figsize=(9, 5 if rows == 1 else 6.4), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index < len(panels):
            _draw(axis, panels[index])
        else:
            axis.set_axis_off()
    _legend(figure, [line for panel in panels for line in panel["lines"]])
    target = Path(asked["path"])
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    figure.savefig(temporary, format="png", metadata={"Software": None})
    temporary.replace(target)


def _legend(figure: Any, lines: list[dict[str, Any]]) -> None:
    """One legend for all panels, above them: a colour per run."""
    from matplotlib.lines import Line2D

    labels = {line["label"]: _colour(line) for line in lines}
    handles = [Line2D([], [], color=colour, linewidth=2, label=label) for label, colour in labels.items()]
    if any(line["bad"] for line in lines):
        cross = Line2D([], [], color=_BAD, linestyle="", marker="x", markersize=6, markeredgewidth=1.6)
        cross.set_label("NaN or infinite")
        handles.append(cross)
    figure.legend(handles=handles, loc="upper left", ncols=_COLUMNS, frameon=False, fontsize=9.5)
    rows = -(-len(handles) // _COLUMNS)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.2 * (rows + 0.9) / figure.get_figheight()))


def _draw(axis: Any, panel: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    for line in panel["lines"]:
        colour = _colour(line)
        style = "--" if line["dashed"] else "-"
        steps, values = line["steps"], _gaps(line["values"])
        marker = "o" if len(steps) <= _FEW else None
        if line["smooth"] is not None:
            axis.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
            values, marker = _gaps(line["smooth"]), None
        elif line["low"] is not None:
            axis.fill_between(steps, _gaps(line["low"]), _gaps(line["high"]), color=colour, alpha=0.18, linewidth=0)
        axis.plot(steps, values, style, color=colour, linewidth=1.6, marker=marker, markersize=3.5)
        if line["bad"]:
            _mark(axis, line["bad"], colour)
    if _spans_decades(panel):
        axis.set_yscale("log")
    axis.set_title(panel["title"], loc="left", fontsize=11)
    axis.set_xlabel("step")
    axis.set_ylabel(panel["unit"])
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axis.xaxis.set_major_formatter(_short_number)
    axis.grid(visible=True, color="#E5E5E5", linewidth=0.8)
    axis.set_axisbelow(True)
    if len({step for line in panel["lines"] for step in line["steps"]}) == 1:
        step = panel["lines"][0]["steps"][0]
        axis.set_xlim(step - 1, step + 1)


def _colour(line: dict[str, Any]) -> str:
    """The run's own."""
    number: int = line["colour"]
    return _COLOURS[number % len(_COLOURS)]


def _gaps(values: list[float | None]) -> list[float]:
    """Values as matplotlib wants them: a gap is NaN."""
    return [float("nan") if value is None else value for value in values]


def _mark(axis: Any, steps: list[int], colour: str) -> None:
    """A cross at the panel's foot for each; where they are few, a dotted line of the run's colour says whose it is."""
    foot = axis.get_xaxis_transform()
    (crosses,) = axis.plot(
        steps, [0.02] * len(steps), "x", color=_BAD, markersize=6, markeredgewidth=1.6, transform=foot, clip_on=False
    )
    # Left in, these would push the panels together: the layout takes them for labels outside.
    crosses.set_in_layout(False)
    if len(steps) <= _FEW:
        axis.vlines(steps, 0, 1, color=colour, linewidth=0.8, linestyle=":", transform=foot).set_in_layout(False)


def _spans_decades(panel: dict[str, Any]) -> bool:
    values = [value for line in panel["lines"] for value in line["values"] if value is not None]
    return bool(values) and min(values) > 0 and max(values) / min(values) > _DECADES


def _short_number(value: float, _position: int) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


if __name__ == "__main__":
    main()
