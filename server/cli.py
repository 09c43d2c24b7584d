"""The command `model-trainer`. Each subcommand's code is imported when it runs: `serve` must start fast."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..executors.errors import ModelTrainerError
from .runs_command import add_to as add_runs


class Commands(Protocol):
    """What argparse's subparsers are; their class has no public name."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser: ...


_EPILOG = """\
examples:
  model-trainer setup                     make the training environment (once; minutes, about 6 GB)
  model-trainer doctor                    check everything, say what to do
  model-trainer demo                      train a tiny model on this machine through the real server
  model-trainer connect claude            let Claude Code start the server in this project
  model-trainer call list_runs            one tool call from a script
  model-trainer runs prune                show what of old runs could go, to make room

exit codes: 0 fine, 1 error or something to do, 2 wrong usage, 130 interrupted
"""

_WINDOWS = """\
error: model-trainer doesn't run on Windows itself; it runs on Linux, and so in WSL2.
code:  windows
next:  `wsl --install` in PowerShell, then install and start model-trainer inside WSL."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    if sys.platform == "win32":
        print(_WINDOWS, file=sys.stderr)
        return 1
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["demo"]:
            # It reads its own arguments.
            from .demo import main as demo

            return demo(given[1:])
        return _run(_parser().parse_args(given))
    except ModelTrainerError as error:
        print(f"error: {error.message}\ncode:  {error.code}\nnext:  {error.next_step}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing is left to tell it, not even at exit.
        sys.stdout = None
        return 1


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "serve":
            from .stdio import serve

            return serve(options.workspace)
        case "call":
            from .call import call

            return call(options.tool, options.json, workspace=options.workspace, as_text=options.text)
        case "setup":
            from .setting_up import run_setup

            return run_setup(options.profile, options.from_requirements)
        case "doctor":
            from ..services.environment.doctor import examine

            diagnosis = examine()
            print(diagnosis.text())
            return 0 if diagnosis.healthy else 1
        case "runs":
            from .runs_command import run

            return run(options)
        case "connect":
            from .connect import connect

            return connect(options.client, options.scope, options.workspace, yes=options.yes, only_print=options.print)
        case _:
            import json

            from ..services.configs.schema import Config

            print(json.dumps(Config.model_json_schema(), indent=2))
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="model-trainer",
        description="Fine-tune language models from a coding agent: an MCP server, and what a person needs around it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _serve(commands)
    _setup(commands)
    _command(
        commands, "doctor", "check settings, folders, training environment, GPU and clients", "model-trainer doctor"
    )
    _command(
        commands, "demo", "train a tiny model on this machine through the real server", "model-trainer demo --help"
    )
    _connect(commands)
    _call(commands)
    add_runs(commands)
    config = _command(
        commands, "config", "the config file's JSON Schema", "model-trainer config --schema > schema.json"
    )
    config.add_argument("--schema", action="store_true", required=True, help="print the JSON Schema of config.yaml")
    return parser


def _command(commands: Commands, name: str, purpose: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=purpose,
        description=f"{name}: {purpose}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _serve(commands: Commands) -> None:
    serve = _command(
        commands, "serve", "serve one MCP client over stdin and stdout", "model-trainer serve --workspace ."
    )
    serve.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        help="folder against which relative paths in tool calls resolve (default: the client's first root)",
    )


def _setup(commands: Commands) -> None:
    setup = _command(
        commands,
        "setup",
        "make the training environment from the lock of this version; a second call finds it made",
        "model-trainer setup",
    )
    setup.add_argument("--profile", default="default", help="which environment (default: %(default)s)")
    setup.add_argument(
        "--from-requirements", metavar="FILE", type=Path, help="make it from this pinned requirements file instead"
    )


def _connect(commands: Commands) -> None:
    connect = _command(
        commands,
        "connect",
        "write the server into a client's configuration, showing the change first",
        "model-trainer connect claude\n  model-trainer connect codex --print",
    )
    connect.add_argument("client", choices=("claude", "cursor", "vscode", "codex"))
    connect.add_argument(
        "--scope",
        choices=("project", "user"),
        help="the project's own configuration, or the user's for all projects (default: project; codex: user)",
    )
    connect.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        help="the project: its configuration is written, and relative paths resolve against it "
        "(default: the current folder; with --scope user: the client's root)",
    )
    connect.add_argument("--yes", action="store_true", help="write without asking")
    connect.add_argument("--print", action="store_true", help="only show the change")


def _call(commands: Commands) -> None:
    call = _command(
        commands,
        "call",
        "call one tool as an agent would; the result is JSON on stdout, the exit code is 1 on error",
        'model-trainer call get_run --json \'{"run_id": "r1"}\'',
    )
    call.add_argument("tool", help="name of the tool; `check_environment` is a good first one")
    call.add_argument("--json", metavar="OBJECT", default="{}", help="its arguments; - reads them from stdin")
    call.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        default=Path.cwd(),
        help="for relative paths (default: current folder)",
    )
    call.add_argument("--text", action="store_true", help="print the text form instead of JSON")


def _folder(text: str) -> Path:
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return folder


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"model-trainer {version('model-trainer')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
