"""Repositories: create, delete, settings, branches, tags and refs.

Simpler than the real Hub: no quotas, resource groups or renaming; a deleted repository leaves its contents in storage.
"""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .accounts import Account, caller, hub_of, repo_to_see, repo_to_write
from .errors import HubError, no_repo
from .state import Kind, Repo


def revision_of(request: Request) -> str:
    """The path parameter `revision`; a slash in it (refs/pr/1) comes encoded."""
    return request.path_params["revision"].replace("%2F", "/")


async def _named(request: Request) -> tuple[dict[str, Any], Account, Kind, str]:
    """What create and delete are given: the body, the caller, and the kind and id that they mean."""
    given: dict[str, Any] = await request.json()
    account = caller(request)
    if account is None:
        raise HubError(401, "Invalid username or password.")
    kind = cast("Kind", given.get("type") or "model")
    return given, account, kind, f"{given.get('organization') or account.name}/{given['name']}"


async def create(request: Request) -> Response:
    """POST /api/repos/create; 409 with the `url` of one that exists."""
    hub = hub_of(request)
    given, account, kind, name = await _named(request)
    namespace = name.partition("/")[0]
    if not account.may_write(namespace):
        raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
    url = f"{request.base_url}{Repo(kind, name, hub.blobs).url_path}"
    if (kind, name) in hub.repos:
        raise HubError(409, f"You already created this {kind} repo: {name}", body={"url": url})
    hub.add_repo(kind, name, private=given.get("visibility") == "private" or bool(given.get("private")))
    return JSONResponse({"url": url, "name": name, "id": f"repo-{kind}-{name}"})


async def delete(request: Request) -> Response:
    """DELETE /api/repos/delete."""
    hub = hub_of(request)
    _, account, kind, name = await _named(request)
    repo = hub.repos.get((kind, name))
    if repo is None or (repo.private and not account.may_read(repo.namespace)):
        raise no_repo(anonymous=False)
    if not account.may_write(repo.namespace):
        raise HubError(403, f"You don't have the rights to delete {name}")
    del hub.repos[kind, name]
    return JSONResponse({})


async def settings(request: Request) -> Response:
    """PUT …/settings: visibility and gating."""
    repo, _ = repo_to_write(request)
    given = await request.json()
    if "visibility" in given:
        repo.private = given["visibility"] == "private"
    if "gated" in given:
        repo.gated = given["gated"]
    return JSONResponse({"private": repo.private, "gated": repo.gated})


async def refs(request: Request) -> Response:
    repo = repo_to_see(request)

    def listed(names: dict[str, str], folder: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in names.items()]

    found = {"branches": listed(repo.branches, "heads"), "tags": listed(repo.tags, "tags")}
    return JSONResponse({**found, "converts": [], "pullRequests": []})


async def add_tag(request: Request) -> Response:
    """POST …/tag/{revision}: a name for that revision's commit."""
    repo, _ = repo_to_write(request)
    name = (await request.json())["tag"]
    commit = repo.at(revision_of(request))
    if name in repo.tags:
        raise HubError(409, f"Tag reference exists already: {name}")
    repo.tags[name] = commit.oid
    return JSONResponse({})


async def remove_tag(request: Request) -> Response:
    repo, _ = repo_to_write(request)
    return _remove(repo.tags, revision_of(request))


async def add_branch(request: Request) -> Response:
    """POST …/branch/{name}: from main's head, or from `startingPoint`."""
    repo, _ = repo_to_write(request)
    name = revision_of(request)
    commit = repo.at((await request.json()).get("startingPoint", "main"))
    if name in repo.branches:
        raise HubError(409, f"Reference already exists: {name}")
    repo.branches[name] = commit.oid
    return JSONResponse({})


async def remove_branch(request: Request) -> Response:
    repo, _ = repo_to_write(request)
    return _remove(repo.branches, revision_of(request))


def _remove(names: dict[str, str], name: str) -> Response:
    if names.pop(name, None) is None:
        raise HubError(404, f"Reference does not exist: {name}", "RevisionNotFound")
    return JSONResponse({})
