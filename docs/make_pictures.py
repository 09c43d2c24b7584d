"""`make pictures`: run the real demo in a terminal and make the README's pictures and transcript from what it printed.

    docs/images/demo.svg     the terminal at the end
    docs/images/curve.png    the loss curve that the demo's plot_metrics drew
    README.md                the block between its `transcript` marks

The demo gets a home and state folder of its own. Shown are its words, but for shortened paths and run ids; the colours
are ours.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
COLUMNS, ROWS = 110, 45
#: GitHub shows pictures of any size; people wait for them.
CURVE_BYTES = 80_000

STATE = "s"

#: What the demo writes in front of a progress message, over the one before.
REWRITE = "\r\x1b[K"
_TRANSCRIPT = re.compile(r"(<!-- transcript -->\n```text\n).*?(```\n<!-- /transcript -->)", re.DOTALL)
_RUN_ID = re.compile(r"\b\d{8}-\d{6}-([a-z_]+-[a-z0-9]{5})\b")
_STEP = re.compile(r"\s*… step ")
_CALL, _ANSWER = re.compile(r"\w+\("), re.compile(r"\s+← ")

_INK = [(214, 218, 224), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221)]
THEME = TerminalTheme((28, 31, 38), _INK[0], [(28, 31, 38), *_INK[1:], (86, 182, 194), _INK[0]])

#: rich's own page loads a font from elsewhere, which a picture in a README may not.
PAGE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> int:
    """Make all of it; 0 when it is there."""
    with tempfile.TemporaryDirectory(prefix="mt") as name:
        folder = Path(name).resolve()
        printed = run_demo(folder)
        drawn = re.findall(r"Drawn: (/\S+\.png)", printed)
        if not drawn:
            raise SystemExit("The demo drew no curve.")
        IMAGES.mkdir(exist_ok=True)
        shutil.copyfile(drawn[-1], IMAGES / "curve.png")
        # A call comes behind the progress that it was written over.
        lines = [REWRITE.join(shorten(part, folder) for part in line.split(REWRITE)) for line in printed.split("\n")]
    if (size := (IMAGES / "curve.png").stat().st_size) > CURVE_BYTES:
        raise SystemExit(f"docs/images/curve.png has {size} bytes; at most {CURVE_BYTES} are wanted.")
    (IMAGES / "demo.svg").write_text(picture([line.split(REWRITE)[-1] for line in lines]), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    told = "\n".join(transcript(lines)).strip("\n") + "\n"
    readme.write_text(_TRANSCRIPT.sub(lambda found: found[1] + told + found[2], text), encoding="utf-8")
    return 0


def run_demo(folder: Path) -> str:
    """What the demo prints to a terminal, with its escapes."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    # Short, because the demo cuts long lines before we shorten them.
    places = {"HOME": str(folder), "MODEL_TRAINER_STATE": str(folder / STATE)}
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **places}
    command = [sys.executable, "-m", "model_trainer.server.cli", "demo"]
    demo = subprocess.Popen(
        command, cwd=folder, stdin=terminal, stdout=terminal, stderr=subprocess.STDOUT, env=environment
    )
    os.close(terminal)
    output = bytearray()
    with open(reader, "rb", buffering=0) as file:
        try:
            while data := file.read(65_536):
                output += data
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        except OSError:
            # Linux: the other end of the terminal is closed.
            pass
    if demo.wait() != 0:
        raise SystemExit(f"The demo ended with {demo.returncode}; nothing was changed.")
    return output.decode().replace("\r\n", "\n")


def shorten(line: str, folder: Path) -> str:
    """Paths as they count from the workspace in calls and answers, else from where the demo was started; `…` for the
    state folder, and run ids by their ends.
    """
    line = line.replace(str(folder / STATE), "…")
    if _CALL.match(line) or _ANSWER.match(line):
        line = line.replace(f"{folder}/demo-output/", "")
    line = line.replace(f"{folder}/", "")
    # A path that the demo cut in its middle.
    line = line.partition(str(folder))[0] + "…" if str(folder) in line else line
    return _RUN_ID.sub(r"…-\1", line)


def transcript(lines: list[str]) -> list[str]:
    """Every line that was shown, also those that others were written over; of steps in a row the first and the last."""
    told: list[str] = []
    for line in lines:
        shown = [part for part in line.split(REWRITE) if part.strip() or part == line]
        for index, part in enumerate(shown):
            beside = [shown[other] for other in (index - 1, index + 1) if 0 <= other < len(shown)]
            if not (_STEP.match(part) and len(beside) == 2 and all(_STEP.match(other) for other in beside)):
                told.append(part.rstrip())
    return told


def picture(lines: list[str]) -> str:
    """The lines as a terminal, as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text("$ model-trainer demo", style="bold green"))
    for line in "\n".join(lines).strip("\n").split("\n"):
        style = "" if line.startswith(" ") else "bold blue" if _CALL.match(line) else "bold"
        text = Text(line, style=style, overflow="fold")
        text.highlight_regex("←|^ +… ", "dim")
        text.highlight_regex("Warning: ", "yellow")
        console.print(text)
    return console.export_svg(title="model-trainer demo", theme=THEME, code_format=PAGE, unique_id="demo")


if __name__ == "__main__":
    sys.exit(main())
