"""What the pages say is what the code does: generated tables, tool names, the skill's form."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from model_trainer.tools import TOOLS

ROOT = Path(__file__).parent.parent
UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))

#: Tools that are announced for later versions: pages may name them only where they say so.
LATER = {"stop_run", "resume_run", "tail_logs", "plot_metrics", "sample_model", "push_adapter", "evaluate_run"}


def between(text: str, mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def tool_table() -> str:
    lines = ["| tool | what it does |", "|---|---|"]
    for tool in TOOLS:
        first = re.split(r"(?<=\.)\s", " ".join((inspect.getdoc(tool.function) or "").split()))[0]
        lines.append(f"| `{tool.name}` | {first} |")
    return "\n".join(lines) + "\n"


def test_the_readmes_tool_table_is_generated_from_the_tools():
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    if UPDATE:
        head, _, tail = text.partition("<!-- tools -->\n")
        text = f"{head}<!-- tools -->\n{tool_table()}<!-- /tools -->{tail.partition('<!-- /tools -->')[2]}"
        path.write_text(text, encoding="utf-8")
    assert between(text, "tools") == tool_table()


def test_the_skill_is_valid_in_a_folder_of_its_name(tmp_path: Path):
    folder = tmp_path / "model-trainer"
    folder.mkdir()
    shutil.copy(ROOT / "SKILL.md", folder)
    validator = Path(sys.executable).with_name("agentskills")
    done = subprocess.run([str(validator), "validate", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((ROOT / "SKILL.md").read_text(encoding="utf-8").splitlines()) < 500


def test_every_tool_that_a_page_calls_is_there_with_those_arguments():
    known = {tool.name: set(inspect.signature(tool.function).parameters) - {"ctx"} for tool in TOOLS}
    calls = 0
    for page in ("README.md", "SKILL.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, arguments in re.findall(r"`(\w+_\w+)\(([^`]*)\)`", text):
            calls += 1
            assert name in known, f"{page}: {name}"
            assert set(re.findall(r"(\w+)=", arguments)) <= known[name], f"{page}: {name}({arguments})"
    assert calls >= 6


def test_the_projects_pages_link_to_files_that_exist():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
