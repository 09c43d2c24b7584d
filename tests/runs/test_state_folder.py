"""Where things lie: the state folder is ours alone, locks stay on this machine, dead writers' files go."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from made_runs import SUCCEEDED, failed, made_run
from programs import SUCCEEDS, program, start, until_status, waiting

from model_trainer.executors import host, leftovers, paths, storage, sweeping
from model_trainer.executors.errors import StateError
from model_trainer.executors.paths import Home
from model_trainer.services.app import App
from model_trainer.services.environment.doctor import examine
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import view
from model_trainer.services.runs.pruning import PruneRequest, plan
from model_trainer.services.settings import Settings
from model_trainer.trainer import records

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 0:28 / /home rw,relatime shared:5 - autofs auto.home rw
32 31 0:29 / /home/ana rw,relatime shared:5 master:1 - nfs4 files:/home/ana rw,vers=4.2
33 32 0:30 / /home/ana/local rw,relatime - xfs /dev/sdb1 rw
34 27 0:31 / /mnt/a\040share rw - cifs //files/share rw
35 27 0:32 / /data rw - ext4 /dev/sdc1 rw
36 35 0:33 / /data rw - lustre mgs:/scratch rw
37 27 0:34 / /mnt/ssh rw - fuse.sshfs ana@host:/ rw
broken line
"""
RUN = "20260101-000001-sft-aaaaa"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/ana/.local/state", "nfs4"),
        ("/home/ana", "nfs4"),
        ("/home/anabel", None),
        ("/home/ana/local/x", None),
        ("/mnt/a share/x", "cifs"),
        ("/data/runs", "lustre"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/var/tmp", None),
    ],
)
def test_a_network_file_system_is_known_by_the_longest_mount_point(folder: str, kind: str | None) -> None:
    assert storage.network_type(Path(folder), MOUNTS) == kind


def test_without_mounts_to_read_every_folder_counts_as_local(tmp_path: Path) -> None:
    assert storage.type_of(tmp_path, "") == "unknown"
    assert storage.network_type(tmp_path, "") is None
    assert storage.type_of(Path("/proc/self"), storage.mountinfo()) == "proc"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /var/tmp."""
    folder = tmp_path / "var-tmp"
    folder.mkdir()
    monkeypatch.setattr(paths, "LOCAL", folder)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor has no torch to import."""
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", "/nowhere/python")


def on_nfs(folder: Path) -> str:
    return f"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {folder} rw - nfs4 files:/x rw\n"


@pytest.mark.anyio
async def test_locks_lie_on_this_machine_when_the_state_folder_does_not(
    local: Path, clean_machine: Path, workspace: Path
) -> None:
    home = Home.open(mounts=on_nfs(clean_machine))
    assert home.locks.parent == local / f"model-trainer-{os.getuid()}"
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home.locks, home.locks.parent)] == [0o700, 0o700]
    assert Home.open(mounts=on_nfs(clean_machine)).locks == home.locks, "the same folder has the same locks"
    assert not (home.root / "locks").exists()
    app = App(home=home, settings=Settings(), workspace=workspace)
    run = await start(app, waiting(workspace))
    assert records.is_locked(home.locks / f"{run.id}.lock")
    elsewhere = App(home=Home(root=home.root, runs=home.runs), settings=Settings(), workspace=None)
    (home.root / "locks").mkdir()
    assert runs.settled_state(elsewhere, elsewhere.home.run(run.id)).status == "unreachable", "as from another machine"
    (workspace / "go").touch()
    await until_status(run, "succeeded")


def test_two_state_folders_have_locks_apart(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[Path] = set()
    for name in ("one", "two"):
        monkeypatch.setenv("MODEL_TRAINER_STATE", str(tmp_path / name))
        found.add(Home.open(mounts=on_nfs(tmp_path)).locks)
    (tmp_path / "link").symlink_to(tmp_path / "two")
    monkeypatch.setenv("MODEL_TRAINER_STATE", str(tmp_path / "link"))
    assert len(found) == 2
    assert Home.open(mounts=on_nfs(tmp_path)).locks in found, "by whatever name it is called"


@pytest.mark.parametrize("how", ["link", "file", "foreign"])
def test_a_place_for_locks_that_somebody_else_made_is_refused(
    local: Path, clean_machine: Path, tmp_path: Path, how: str
) -> None:
    place = local / f"model-trainer-{os.getuid()}"
    if how == "link":
        (tmp_path / "ours").mkdir()
        place.symlink_to(tmp_path / "ours")
    elif how == "file":
        place.touch()
    else:
        place.mkdir()
        give_away(place)
    with pytest.raises(StateError) as caught:
        Home.open(mounts=on_nfs(clean_machine))
    assert caught.value.code == "foreign_state"
    assert f"`ls -ld {place}`" in caught.value.next_step
    assert "network file system" in caught.value.message


def give_away(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(path, 12345, 12345, follow_symlinks=False)


@pytest.mark.usefixtures("quick")
def test_the_doctor_tells_where_runs_and_locks_lie_and_of_a_network_file_system(
    local: Path, clean_machine: Path, workspace: Path
) -> None:
    told = examine(workspace, mounts=on_nfs(clean_machine)).text()
    assert f"locks: {local}" in told
    assert f"{clean_machine}/state/model-trainer is on a network file system (nfs4)" in told
    assert "BAD   locks" not in told
    # /var/tmp can be on one too.
    assert "BAD   locks lie in" in examine(workspace, mounts=on_nfs(Path("/"))).text()
    assert "network" not in examine(workspace, mounts="").text()


@pytest.mark.usefixtures("quick")
def test_a_state_folder_that_others_can_enter_is_closed_to_them(clean_machine: Path, workspace: Path) -> None:
    state = clean_machine / "state" / "model-trainer"
    state.mkdir(parents=True)
    state.chmod(0o755)
    told = examine(workspace)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert f"{state} could be entered by other users; it is closed to them now" in told.text()
    assert "could be entered" not in examine(workspace).text()


@pytest.mark.usefixtures("quick")
def test_a_runs_folder_that_the_human_chose_keeps_its_mode(
    tmp_path: Path, clean_machine: Path, workspace: Path
) -> None:
    given = tmp_path / "big disk"
    given.mkdir()
    given.chmod(0o770)
    Home.open(given)
    assert stat.S_IMODE(given.stat().st_mode) == 0o770
    settings = clean_machine / "config" / "model-trainer" / "settings.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"runs_dir = '{given}'\n", encoding="utf-8")
    assert f"chmod 700 '{given}'" in examine(workspace).to_do
    assert stat.S_IMODE(given.stat().st_mode) == 0o770
    give_away(given)
    with pytest.raises(StateError) as caught:
        Home.open(given)
    assert caught.value.code == "foreign_state"
    assert "Set runs_dir in settings.toml to a folder of your own" in caught.value.next_step


def test_a_link_does_not_hide_whose_the_state_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.mkdir()
    link.symlink_to(ours)
    monkeypatch.setenv("MODEL_TRAINER_STATE", str(link))
    Home.open()
    # A link of somebody else to a folder of ours: tomorrow it leads elsewhere.
    give_away(link)
    with pytest.raises(StateError) as caught:
        Home.open()
    assert caught.value.code == "foreign_state"
    link.unlink()
    link.symlink_to(ours)
    give_away(ours)
    with pytest.raises(StateError) as caught:
        Home.open()
    assert caught.value.code == "foreign_state"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on another file system than the state folder's."""
    folder = Path(mkdtemp(dir="/dev/shm"))
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.anyio
async def test_runs_may_lie_on_another_disk(memory: Path, tmp_path: Path, workspace: Path) -> None:
    assert memory.stat().st_dev != tmp_path.stat().st_dev
    app = App(home=Home.open(memory / "runs"), settings=Settings(), workspace=workspace)
    run = await start(app, program(workspace, SUCCEEDS))
    assert run.root.parent == memory / "runs"
    await until_status(run, "succeeded")
    assert [entry.name for entry in app.home.runs.iterdir()] == [run.id]


@pytest.mark.anyio
async def test_of_two_machines_on_one_runs_folder_neither_touches_the_others_runs(
    memory: Path, tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def machine(name: str) -> App:
        monkeypatch.setenv("MODEL_TRAINER_STATE", str(tmp_path / name))
        return App(home=Home.open(memory / "runs"), settings=Settings(), workspace=workspace)

    one, two = machine("one"), machine("two")
    key, digest = "a key", "a digest"
    run = await start(one, waiting(workspace), key=key, config_digest=digest)
    dead = made_run(one, RUN, None)
    building = one.home.runs / ".20260101-000002-sft-bbbbb"
    building.mkdir()
    # What the other one sees.
    assert (await view.get(two, run.id)).state.status == "unreachable"
    assert (await view.get(two, dead.id)).state.status == "unreachable"
    assert not dead.exit_json.exists()
    assert not sweeping.sweep(dead.root, two.home.locks)
    sweeping.tidy(two.home.runs, two.home.locks)
    assert building.exists()
    found = runs.find_by_key(two, key, "train")
    assert found is not None
    assert found.id == run.id, "the same key is no second run"
    same = runs.find_same_config(two, digest)
    assert same is not None
    assert same.id == run.id
    shown = plan(two, PruneRequest(older_than_days=0, what="run"))
    assert shown.doomed == []
    assert set(shown.kept["can't be seen from here"]) == {run.id, dead.id}
    # And the one that it is of.
    assert (await view.get(one, dead.id)).state.status == "lost"
    (workspace / "go").touch()
    await until_status(run, "succeeded")
    assert (await view.get(two, run.id)).state.status == "succeeded"


KILLED = """
import os, signal, sys
from pathlib import Path
from model_trainer.trainer import records
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
records.write_json(Path(sys.argv[1]), {"a": 1})
"""


def killed_writer(path: Path) -> Path:
    """What a writer leaves that is killed in the middle of a record."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -9
    [left] = path.parent.glob(f".{path.name}.*.tmp")
    return left


def age(path: Path, seconds: float) -> None:
    then = path.lstat().st_mtime - seconds
    os.utime(path, (then, then))


def test_what_a_killed_writer_left_goes_at_the_next_start(app: App) -> None:
    home = app.home
    left = [killed_writer(folder / "record.json") for folder in (home.root, home.plans, home.cache, home.locks)]
    half = home.code / ".0123456789abcdef.99999999"
    (half / "package").mkdir(parents=True)
    drawn = home.cache / ".keys.json.0a1b2c3d4e5f.tmp"
    drawn.touch()
    others = [home.plans / ".keep", home.plans / "plan.tmp", home.root / ".mine.txt", home.cache / ".x.notes.tmp"]
    for path in others:
        path.touch()
        age(path, 1e6)
    Home.open()
    assert all(path.exists() for path in (*left, half, drawn)), "it may be another container's writer"
    for path in (*left, half):
        age(path, 120)
    age(drawn, 3700)
    Home.open()
    assert not any(path.exists() for path in (*left, half))
    assert drawn.exists(), "the wall clock may have jumped by an hour, and no pid is known"
    age(drawn, 7200)
    Home.open()
    assert not drawn.exists()
    assert all(path.exists() for path in others)


def test_a_living_writers_file_stays_and_on_shared_storage_only_age_counts(tmp_path: Path) -> None:
    ours, dead = tmp_path / f".a.json.{os.getpid()}.tmp", tmp_path / ".b.json.99999999.tmp"
    for path in (ours, dead):
        path.touch()
        age(path, 600)
    assert host.identify(99999999) is None
    assert leftovers.tidy([tmp_path], shared=True) == []
    assert leftovers.tidy([tmp_path, tmp_path / "gone"], shared=False) == [dead]
    age(ours, 2 * 3600)
    assert leftovers.tidy([tmp_path], shared=True) == [ours]


def test_what_is_left_in_a_run_that_is_over_is_found(app: App) -> None:
    run = made_run(app, RUN, failed())
    left = killed_writer(run.attempt(1).progress)
    reserved = run.root / ".exit.json.reserved"
    reserved.write_bytes(b" " * 4096)
    assert leftovers.of_a_run(run.root) == sorted([left, reserved])
    assert leftovers.of_a_run(made_run(app, "20260101-000003-sft-ccccc", SUCCEEDED).root) == []
