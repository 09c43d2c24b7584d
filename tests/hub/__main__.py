"""The Hub as a program: `PYTHONPATH=tests python -m hub --folder DIR --user ada:hf_token --repo model:acme/tiny=PATH`.

It prints its endpoint, and ends when its stdin closes or its parent dies.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from pathlib import Path
from typing import cast

from .serving import serving
from .state import Hub, Kind


def main() -> None:
    parser = argparse.ArgumentParser(prog="hub", description="A Hub on loopback.")
    parser.add_argument("--folder", type=Path, required=True, help="where contents and what was received are kept")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:TOKEN[:ORG,…]", help="may write")
    parser.add_argument("--repo", action="append", default=[], metavar="KIND:ID=PATH", help="seeded from a folder")
    asked = parser.parse_args()
    hub = Hub(asked.folder)
    for given in asked.user:
        name, token, *orgs = given.split(":")
        hub.add_user(name, token=token, orgs=dict.fromkeys("".join(orgs).split(","), "write") if orgs else {})
    for given in asked.repo:
        kind, _, rest = given.partition(":")
        name, _, folder = rest.partition("=")
        files = {str(path.relative_to(folder)): path for path in sorted(Path(folder).rglob("*")) if path.is_file()}
        hub.add_repo(cast("Kind", kind), name, files)
    parent = os.pidfd_open(os.getppid())
    with serving(hub) as endpoint:
        print(endpoint, flush=True)
        while parent not in (ready := select.select([sys.stdin, parent], [], [])[0]):
            if sys.stdin in ready and not os.read(0, 4096):
                break


if __name__ == "__main__":
    main()
