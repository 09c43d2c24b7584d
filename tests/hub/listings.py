"""What a repository is and what is in it: info, the tree, and chosen paths.

Simpler than the real Hub: no downloads, likes or security scans; a folder's id is a hash of its listing, not git's.
A gated repository's listings are open to all, as on the real Hub; its files are not.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from . import cards
from .accounts import hub_of, repo_to_see
from .contents import File
from .errors import no_entry
from .repos import revision_of
from .state import Commit, Repo


async def info(request: Request) -> Response:
    """GET /api/models/{id}, with /revision/{revision} or main. `blobs` adds sizes and hashes, `expand` picks fields."""
    repo = repo_to_see(request)
    commit = repo.at(revision_of(request)) if "revision" in request.path_params else repo.head
    found = _info(repo, commit, blobs=request.query_params.get("blobs") is not None)
    if chosen := request.query_params.getlist("expand"):
        found = {key: value for key, value in found.items() if key in {"_id", "id", *chosen}}
    return JSONResponse(found)


def _info(repo: Repo, commit: Commit, *, blobs: bool) -> dict[str, Any]:
    files = dict(commit.files)
    card = cards.card_data(files)
    found: dict[str, Any] = {
        "_id": hashlib.sha1(f"{repo.kind} {repo.id}".encode(), usedforsecurity=False).hexdigest()[:24],
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": _date(commit),
        "createdAt": repo.created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": cards.tags(card),
        "cardData": card,
        "siblings": [{"rfilename": path, **(_blob(file) if blobs else {})} for path, file in files.items()],
        "usedStorage": sum(file.size for file in files.values()),
    }
    if repo.kind == "model":
        found |= {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
        derived = {"config": cards.model_config(files), "safetensors": cards.safetensors(files)}
        found |= {key: value for key, value in derived.items() if value is not None}
    return found


def _blob(file: File) -> dict[str, Any]:
    large = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
    return {"size": file.size, "blobId": file.oid, **({"lfs": large} if file.sha256 else {})}


async def tree(request: Request) -> Response:
    """GET …/tree/{revision}[/{folder}], in pages with a Link to the next; `recursive` and `expand` as asked."""
    repo = repo_to_see(request)
    commit = repo.at(revision_of(request))
    folder = request.path_params.get("path", "").replace("%2F", "/").strip("/")
    asked = request.query_params
    entries = _entries(commit, folder, recursive=_is_true(asked.get("recursive")), expand=_is_true(asked.get("expand")))
    if folder and not entries:
        raise no_entry(folder, commit.oid)
    size = hub_of(request).tree_page
    start = int(asked.get("cursor", "0"))
    headers: dict[str, str] = {}
    if start + size < len(entries):
        rest = urlencode({**asked, "cursor": start + size})
        path = request.scope["raw_path"].decode()
        headers["Link"] = f'<{str(request.base_url).rstrip("/")}{path}?{rest}>; rel="next"'
    return JSONResponse(entries[start : start + size], headers=headers)


def _entries(commit: Commit, folder: str, *, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    folders: dict[str, None] = {}
    found: list[dict[str, Any]] = []
    for path in commit.files:
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        depth = len(parts) if recursive else min(2, len(parts))
        folders.update(dict.fromkeys(prefix + "/".join(parts[:count]) for count in range(1, depth)))
        if recursive or len(parts) == 1:
            found.append(_file(commit, path, expand=expand))
    return [*(_folder(commit, path, expand=expand) for path in folders), *found]


async def paths_info(request: Request) -> Response:
    """POST …/paths-info/{revision}, form-encoded: the entries of those paths that exist."""
    commit = repo_to_see(request).at(revision_of(request))
    asked = parse_qs((await request.body()).decode())
    expand = _is_true(asked.get("expand", ["false"])[0])
    found: list[dict[str, Any]] = []
    for path in (path.strip("/") for path in asked.get("paths", [])):
        if path in commit.files:
            found.append(_file(commit, path, expand=expand))
        elif any(name.startswith(f"{path}/") for name in commit.files):
            found.append(_folder(commit, path, expand=expand))
    return JSONResponse(found)


def _file(commit: Commit, path: str, *, expand: bool) -> dict[str, Any]:
    file = commit.files[path]
    found: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.sha256:
        found["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
    return {**found, **(_last_commit(commit, path) if expand else {})}


def _folder(commit: Commit, path: str, *, expand: bool) -> dict[str, Any]:
    listing = "".join(f"{name} {file.oid}\n" for name, file in commit.files.items() if name.startswith(f"{path}/"))
    oid = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path, **(_last_commit(commit, path) if expand else {})}


def _last_commit(commit: Commit, path: str) -> dict[str, Any]:
    """The newest commit in which what lies at `path` changed."""

    def there(one: Commit | None) -> dict[str, str]:
        files = one.files.items() if one is not None else ()
        return {name: file.oid for name, file in files if name == path or name.startswith(f"{path}/")}

    changed = next(one for one in commit.history() if there(one) != there(one.parent))
    return {"lastCommit": {"id": changed.oid, "title": changed.title, "date": _date(changed)}}


def _date(commit: Commit) -> str:
    return commit.date.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_true(value: str | None) -> bool:
    return value is not None and value.lower() in ("true", "1")
