"""Anything in any order: runs are launched, stopped, killed and looked at, the machine restarts; what must hold, holds.

Hypothesis chooses the order; every run is a real supervisor with a real program. After each step: a slot has one owner,
an outcome that was seen once stays, and every answer agrees with the records.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from counts import times
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from programs import SUCCEEDS, program, start

from model_trainer.executors import host, local, states, sweeping
from model_trainer.executors.paths import Home, RunPaths
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing, restarting
from model_trainer.services.runs import view as run_view
from model_trainer.services.settings import Settings
from model_trainer.trainer import records

pytestmark = pytest.mark.soak

SLOTS = ("cpu-0", "cpu-1")
OTHER_BOOT = "00000000-0000-0000-0000-000000000000"

#: What a run's program does: end well at once or a little later, fail, run out of GPU memory once, wait for a stop.
BODIES = {
    "succeeds": SUCCEEDS,
    "takes a while": f"sleep 0.15; {SUCCEEDS}",
    "fails": "exit 3",
    "recovers": f"""if [ "$(basename "$4")" = 1 ]; then
printf '{{"outcome": "failed", "reason": "oom_gpu", "detail": ""}}' > "$4/result.json"; exit 1; fi; {SUCCEEDS}""",
    "waits": "exec sleep 600",
    "leaves a daemon": f"(setsid sleep 600 &) ; {SUCCEEDS}",
}
CONFIG = "version: 1\ntraining:\n  learning_rate: 0.1\n"
POLICY: dict[str, Any] = {"interrupted": "resume", "oom_gpu": "shrink_batch", "communication_retries": 1}


class Machine(RuleBasedStateMachine):
    """One machine with two slots, and what was seen of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        home = Home(root=self.folder / "state", runs=self.folder / "state" / "runs")
        for folder in (home.root, home.runs, home.plans, home.envs, home.code, home.cache, home.locks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.app = App(home=home, settings=Settings(), workspace=self.folder)
        self.runs: list[RunPaths] = []
        self.ended: dict[str, tuple[states.RunState, bytes]] = {}
        self.programs = {name: program(self.folder, body, name.replace(" ", "-")) for name, body in BODIES.items()}

    @initialize()
    def empty(self) -> None:
        assert anyio.run(self._list).total == 0

    @rule(body=st.sampled_from(sorted(BODIES)), need=st.sampled_from((1, 1, 1, 2)), recovers=st.booleans())
    def launch(self, body: str, need: int, recovers: bool) -> None:
        async def go() -> RunPaths:
            return await start(
                self.app,
                self.programs[body],
                pool=Pool("cpu", SLOTS, need),
                recovery=POLICY if recovers else None,
                config_text=CONFIG,
                grace_seconds=2.0,
            )

        self.runs.append(anyio.run(go))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def launch_after_another(self, data: st.DataObject) -> None:
        former = data.draw(st.sampled_from(self.runs), label="after")

        async def go() -> RunPaths:
            return await start(self.app, self.programs["succeeds"], after=former.id, pool=Pool("cpu", SLOTS, 1))

        self.runs.append(anyio.run(go))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        local.request_stop(data.draw(st.sampled_from(self.runs), label="cancelled"))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), number=st.sampled_from((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
    def kill_a_supervisor(self, data: st.DataObject, number: signal.Signals) -> None:
        self._signal(self._named(data.draw(st.sampled_from(self.runs), label="supervisor of")), number)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), number=st.sampled_from((signal.SIGKILL, signal.SIGTERM)))
    def kill_a_trainer(self, data: st.DataObject, number: signal.Signals) -> None:
        run = data.draw(st.sampled_from(self.runs), label="trainer of")
        for pid, process in sweeping.marked(run.id):
            assert pid
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), seconds=st.sampled_from((0.0, 0.1, 0.5)))
    def look(self, data: st.DataObject, seconds: float) -> None:
        run = data.draw(st.sampled_from(self.runs), label="looked at")

        async def go() -> run_view.RunView:
            return await run_view.get(self.app, run.id, wait_seconds=seconds)

        self._seen(run, anyio.run(go).state)

    @rule()
    def list_all(self) -> None:
        answer = anyio.run(self._list)
        assert {line.run_id for line in answer.runs} == {run.id for run in self.runs}
        for line in answer.runs:
            if line.run_id in self.ended:
                assert line.status == self.ended[line.run_id][0].status

    @rule()
    def restart_the_machine(self) -> None:
        """Everything dies at once, and the records are of another boot; then a server starts."""
        supervisors = [process for run in self.runs if (process := self._named(run)) is not None]
        for process in supervisors:
            self._signal(process, signal.SIGKILL)
        for run in self.runs:
            assert sweeping.kill_marked(run.id)
        for process in supervisors:
            while host.is_alive(process):
                os.sched_yield()
        for run in self.runs:
            if not run.exit_json.exists():
                text = run.events.read_text(encoding="utf-8")
                run.events.write_text(text.replace(host.boot_id(), OTHER_BOOT), encoding="utf-8")
        restarting.restart_interrupted(self.app)

    @invariant()
    def each_slot_has_one_owner(self) -> None:
        owners: dict[str, RunPaths] = {}
        for run in filter(self._trains, self.runs):
            for slot in self._slots(run):
                other = owners.setdefault(slot, run)
                # One of the two may have ended between the two looks.
                assert other is run or not (self._trains(other) and self._trains(run)), (slot, other.id, run.id)

    @invariant()
    def outcomes_stay_and_answers_agree_with_the_records(self) -> None:
        for run in self.runs:
            # As every tool answers: what is lost is swept and recorded before anybody is told.
            self._seen(run, runs.settled_state(self.app, run))

    def teardown(self) -> None:
        """Everything is stopped, ends, and leaves nothing: no process, no held slot, no run without an outcome."""
        try:
            restarting.restart_interrupted(self.app)
            for run in reversed(self.runs):
                local.request_stop(run)

            async def wait(run: RunPaths) -> states.RunState:
                return await runs.wait(self.app, run, seconds=60)

            for run in self.runs:
                state = anyio.run(wait, run)
                assert states.is_over(state), (run.id, state)
                self._seen(run, state)
                assert run.exit_json.exists()
                assert not list(sweeping.marked(run.id))
            assert not any(records.is_locked(lease) for lease in self._leases())
        finally:
            for run in self.runs:
                self._signal(self._named(run), signal.SIGKILL)
                sweeping.kill_marked(run.id)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _seen(self, run: RunPaths, state: states.RunState) -> None:
        if run.id in self.ended:
            before, record = self.ended[run.id]
            assert state == before
            assert not record or run.exit_json.read_bytes() == record
        elif states.is_over(state):
            self.ended[run.id] = (state, run.exit_json.read_bytes() if run.exit_json.exists() else b"")
        if state.status in ("succeeded", "failed", "cancelled"):
            record = records.read_json(run.exit_json)
            assert record is not None
            assert state.status in record["outcome"]
        if state.status == "succeeded":
            ended = records.read_json(run.latest_attempt().exit_json)
            assert ended is not None
            assert ended["code"] == 0

    def _trains(self, run: RunPaths) -> bool:
        return records.is_locked(run.lock) and any(True for _ in sweeping.marked(run.id))

    def _slots(self, run: RunPaths) -> list[str]:
        """What the run's newest supervisor leased."""
        leased = [row["slots"] for row in records.read_lines(run.events)[0] if row["event"] == "leased"]
        return leased[-1] if leased else []

    def _leases(self) -> list[Path]:
        folder = self.app.home.locks / "leases"
        return list(folder.iterdir()) if folder.is_dir() else []

    def _named(self, run: RunPaths) -> host.ProcessIdentity | None:
        """The run's supervisor, while it lives."""
        rows = [row["supervisor"] for row in records.read_lines(run.events)[0] if "supervisor" in row]
        if not rows or not records.is_locked(run.lock):
            return None
        identity = host.ProcessIdentity(rows[-1]["pid"], rows[-1]["start"], rows[-1]["boot"])
        return identity if host.is_alive(identity) else None

    def _signal(self, process: host.ProcessIdentity | None, number: signal.Signals) -> None:
        if process is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    async def _list(self) -> listing.RunList:
        return await listing.list_runs(self.app, status=None, kind="all", limit=100, cursor=None)


def test_in_any_order_of_anything_what_must_hold_holds():
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=times(6, 150),
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
