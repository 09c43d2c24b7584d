"""The server process: it leaves within a second of its client, whatever it is doing, and keeps the wire clean."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from server_processes import EXIT_SECONDS, INITIALIZE, START_SECONDS, TOY_SERVER, Child


def hang(child: Child, how: str, mark: Path) -> None:
    """Let a call hang, and wait until it does."""
    child.handshake()
    child.request("tools/call", {"name": "hang", "arguments": {"how": how, "mark": str(mark)}})
    while not mark.exists():
        assert child.process.poll() is None
        # A ping would not do here: the loop may be blocked, which is what is asked for.
        os.sched_yield()


def test_the_end_of_input_ends_the_process() -> None:
    with Child() as child:
        child.handshake()
        child.end_of_input()
        assert child.exits() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_process_although_its_input_is_open(number: signal.Signals) -> None:
    with Child() as child:
        child.handshake()
        child.process.send_signal(number)
        assert child.exits() == 0


@pytest.mark.parametrize("how", ["await", "thread", "loop"])
@pytest.mark.parametrize("event", ["input", "signal"])
def test_a_tool_in_flight_holds_nothing(how: str, event: str, tmp_path: Path) -> None:
    with Child() as child:
        hang(child, how, tmp_path / "hangs")
        if event == "input":
            child.end_of_input()
        else:
            child.process.send_signal(signal.SIGTERM)
        assert child.exits() == 0
    # A call that can be cancelled is, and gets the time to clean up after itself.
    assert (tmp_path / "hangs.cleaned").exists() == (how == "await")


def test_a_client_that_no_longer_reads_ends_the_process() -> None:
    reader, writer = os.pipe()
    with Child(stdout=writer) as child:
        os.close(writer)
        child.request("initialize", INITIALIZE)
        assert os.read(reader, 1) == b"{"
        os.close(reader)
        child.request("ping")
        assert child.exits() == 0


def test_signals_that_mean_nothing_here_do_not_end_the_process() -> None:
    code = "import signal; signal.signal(signal.SIGUSR1, lambda *_: None)\n" + TOY_SERVER
    with Child(code) as child:
        child.handshake()
        child.process.send_signal(signal.SIGUSR1)
        assert child.ask("tools/call", {"name": "noise", "arguments": {}})["result"]
        child.process.send_signal(signal.SIGUSR1)
        assert child.ask("tools/call", {"name": "noise", "arguments": {}})["result"]


def test_the_end_of_the_parent_ends_the_process() -> None:
    # A launcher between us and the server, as `uv run` is one; input and output stay open beyond its death.
    launcher = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {TOY_SERVER!r}]); p.wait()"
    with Child(launcher) as child:
        child.handshake()
        [server] = _children(child.process.pid)
        descriptor = os.pidfd_open(server)
        try:
            child.process.kill()
            child.process.wait(START_SECONDS)
            assert _ended(descriptor, EXIT_SECONDS)
        finally:
            os.close(descriptor)


def test_what_tools_and_their_children_print_stays_off_the_wire() -> None:
    with Child() as child:
        child.handshake()
        answer = child.ask("tools/call", {"name": "noise", "arguments": {}})
        assert answer["result"]["structuredContent"]["told"] == "0"
        assert child.ask("ping")["result"] == {}
        child.end_of_input()
        child.exits()
    assert b"printed to stdout" in child.errors
    assert b"written to descriptor 1" in child.errors
    assert b"a child" in child.errors
    assert b"''" in child.errors, "a child must read an empty input, not the protocol"


def test_a_server_without_a_usable_state_folder_still_says_why(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    with Child(environment={"MODEL_TRAINER_STATE": str(blocked / "state")}) as child:
        child.handshake()
        answer = child.ask("tools/call", {"name": "where", "arguments": {}})
        assert answer["result"]["isError"]
        assert answer["result"]["structuredContent"]["code"] == "state_unwritable"


def test_the_log_of_the_sdk_goes_to_stderr_without_slow_tracebacks() -> None:
    with Child() as child:
        child.handshake()
        child.ask("tools/call", {"name": "fail", "arguments": {"code": "defect"}})
        child.end_of_input()
        child.exits()
    assert b"private text" not in child.errors


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(part) for part in text.split()]


def _ended(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
