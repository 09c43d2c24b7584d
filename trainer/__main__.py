"""`python -m trainer_snapshot.trainer COMMAND …`: the only door into the training environment.

`train`, `inspect` and `push` are the bodies of runs (they get an attempt folder); the others answer a short question.
"""

from __future__ import annotations

import sys
from importlib import import_module

#: Command to module; each module gives `main(arguments) -> exit status` and imports what is heavy itself.
COMMANDS = {
    "train": "train",
    "inspect": "scan",
    "push": "push",
    "probe": "probe",
    "preview": "preview",
    "sample": "sample",
    "tiny": "tiny",
}


def main(arguments: list[str]) -> int:
    """Run one command; 2 for one that isn't known."""
    if not arguments or arguments[0] not in COMMANDS:
        sys.stderr.write(f"usage: trainer {{{','.join(COMMANDS)}}} …\n")
        return 2
    module = import_module(f".{COMMANDS[arguments[0]]}", __package__)
    return module.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
