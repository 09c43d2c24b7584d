"""Commits: NDJSON of a header and one line per change, applied as a whole or not at all; and their history.

Simpler than the real Hub: no pull requests, no copies (the client sends copies of small files as files), and only one
page of history.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .accounts import hub_of, repo_to_see, repo_to_write
from .cards import front_matter
from .contents import File
from .errors import HubError, no_entry
from .repos import revision_of
from .state import Hub, Repo


async def validate_yaml(request: Request) -> Response:
    """POST /api/validate-yaml: whether a README's front matter can be read; asked before each upload of one."""
    try:
        front_matter((await request.json())["content"])
    except ValueError as error:
        return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return JSONResponse({"errors": [], "warnings": []})


async def commit(request: Request) -> Response:
    """POST …/commit/{branch}; 412 where the branch has moved on from `parentCommit`."""
    repo, account = repo_to_write(request)
    branch = revision_of(request)
    if branch not in repo.branches:
        repo.at(branch)
        raise HubError(400, f"{branch} is not a branch")
    if "create_pr" in request.query_params:
        raise HubError(501, "Pull requests are not part of this Hub")
    lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
    if not lines or lines[0]["key"] != "header":
        raise HubError(400, "The first line of a commit must be its header")
    header = lines[0]["value"]
    head = repo.commits[repo.branches[branch]]
    parent = header.get("parentCommit")
    if parent and not head.oid.startswith(parent):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for line in lines[1:]:
        _apply(hub_of(request), repo, files, line["key"], line["value"])
    made = repo.move_on(
        branch, files, title=header["summary"], message=header.get("description", ""), author=account.name
    )
    url = f"{request.base_url}{repo.url_path}/commit/{made.oid}"
    return JSONResponse({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def _apply(hub: Hub, repo: Repo, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
    path = value["path"]
    match key:
        case "file":
            content = value["content"]
            data = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
            files[path] = hub.blobs.keep_regular(data)
        case "lfsFile":
            found = hub.blobs.large(value["oid"])
            if found is None:
                raise HubError(400, f"{path} points to a large file that was not uploaded: {value['oid']}")
            files[path] = found
        case "deletedFile":
            if files.pop(path, None) is None:
                # The client adds a hint where it finds these words (hf_api.py, create_commit).
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        case "deletedFolder":
            inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise no_entry(path, repo.head.oid)
            for name in inside:
                del files[name]
        case _:
            raise HubError(400, f"There is no change called {key}")


async def history(request: Request) -> Response:
    """GET …/commits/{revision}: newest first."""
    found = repo_to_see(request).at(revision_of(request)).history()
    return JSONResponse(
        [
            {
                "id": one.oid,
                "title": one.title,
                "message": one.message,
                "authors": [{"user": one.author}],
                "date": one.date.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
            for one in found
        ]
    )
