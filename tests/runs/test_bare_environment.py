"""A run stands on its own copy of our code: nothing of `model_trainer` need be installed, or stay where it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import anyio
import pytest
from programs import events, until

from model_trainer.executors.paths import Home
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

SOURCE = Path(__file__).parent.parent.parent
FOLDERS = ("services", "executors", "trainer")

IMPORTS = """
import importlib, importlib.util, json, sys
package, names = sys.argv[1], sys.argv[2:]
for name in names:
    importlib.import_module(f"{package}.{name}")
print(json.dumps({
    "ours": sorted(m for m in sys.modules if m.startswith("model_trainer")),
    "installed": importlib.util.find_spec("model_trainer") is not None,
    "foreign": sorted(m for m in sys.modules if "." not in m and m not in sys.stdlib_module_names
                      and m not in ("__main__", package) and not m.startswith("_")),
}))
"""

#: A trainer of the standard library: proves that the copy's modules are there, waits, and ends well.
TRAINER = """#!{python} -S
import sys, time
from pathlib import Path
assert not any(name.startswith("model_trainer") for name in sys.modules)
from {package}.trainer import contract, records
from {package}.trainer.yaml12 import load
attempt = Path(sys.argv[4])
(attempt / "ready").write_text(contract.__file__ + "\\n", encoding="utf-8")
while not Path({go!r}).exists():
    time.sleep(0.03)
records.write_json(attempt / "result.json", {{"outcome": "succeeded", "ended_by": "planned_end"}})
"""

LAUNCH = """
import sys
from pathlib import Path
import anyio
from model_trainer.executors.paths import Home
from model_trainer.services.runs import life as runs
from model_trainer.services.app import App
from model_trainer.services.settings import Settings
assert runs.__file__.startswith(sys.argv[2]), runs.__file__
app = App(home=Home.open(), settings=Settings(), workspace=None)
launch = runs.Launch(kind="train", python=Path(sys.argv[1]), label="test", request={})
print(anyio.run(runs.start, app, launch).id)
"""


def bare(code: str, *arguments: str, path: str) -> str:
    """What code prints in a Python that has only the standard library, and `path`."""
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code, *arguments],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_supervisor_and_trainer_import_where_nothing_is_installed(clean_machine: Path):
    names = ["executors.supervisor", *(f"trainer.{name}" for name in ("contract", "records", "scan_files", "__main__"))]
    found = json.loads(bare(IMPORTS, SNAPSHOT_PACKAGE, *names, path=str(snapshot(Home.open()))))
    assert found == {"ours": [], "installed": False, "foreign": []}


@pytest.mark.anyio
async def test_a_run_goes_on_when_the_source_it_came_from_is_moved_away(app: App, workspace: Path, tmp_path: Path):
    tree = tmp_path / "install"
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / name, tree / "model_trainer" / name, ignore=ignore)
    go = workspace / "go"
    trainer = workspace / "python"
    text = TRAINER.format(python=sys.executable, package=SNAPSHOT_PACKAGE, go=str(go))
    trainer.write_text(text, encoding="utf-8")
    trainer.chmod(0o755)
    # -S and the packages as a plain folder: of model_trainer only the copy is there.
    packages = sysconfig.get_paths()["purelib"]
    launch = [sys.executable, "-S", "-P", "-c", LAUNCH, str(trainer), str(tree)]
    done = await anyio.run_process(
        launch, env={"PYTHONPATH": f"{tree}:{packages}", "HOME": str(app.home.root), **_state(app)}, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    run = app.home.run(done.stdout.decode().strip())
    await until(run, "running")
    tree.rename(tmp_path / "moved")
    with anyio.fail_after(60):
        while not (run.attempt(1).root / "ready").exists():
            await anyio.sleep(0.02)
    go.touch()
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded", events(run)
    said = (run.attempt(1).root / "ready").read_text(encoding="utf-8")
    assert said.strip().startswith(str(run.code))


def _state(app: App) -> dict[str, str]:
    return {"MODEL_TRAINER_STATE": str(app.home.root)}
