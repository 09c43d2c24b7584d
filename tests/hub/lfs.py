"""Large files: which are large, what is still to be sent, the bytes themselves, and whether they came.

The path that huggingface_hub takes without Xet (_commit_api.py, lfs.py). An object that is here already gets no upload
action, so an interrupted upload goes on where it was. Simpler than the real Hub: one part per file (the real one takes
parts of files above 5 GB), links never expire, `.gitignore` is not applied.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .accounts import hub_of, repo_to_write
from .contents import is_large
from .errors import HubError
from .repos import revision_of


async def preupload(request: Request) -> Response:
    """POST …/preupload/{revision}: how each file is to be sent, and what lies at its path now."""
    repo, _ = repo_to_write(request)
    there = repo.at(revision_of(request)).files

    def answer(file: dict[str, Any]) -> dict[str, Any]:
        large = is_large(file["path"], file["size"], base64.b64decode(file["sample"]))
        known = there.get(file["path"])
        # The client compares `oid` with its own: git's id of a regular file, the sha256 of a large one.
        oid = {"oid": known.etag} if known is not None else {}
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **oid}

    return JSONResponse({"files": [answer(file) for file in (await request.json())["files"]]})


async def batch(request: Request) -> Response:
    """POST /{repo}.git/info/lfs/objects/batch: a link for each object that isn't here."""
    hub = hub_of(request)
    repo, _ = repo_to_write(request)
    objects: list[dict[str, Any]] = []
    for wanted in (await request.json())["objects"]:
        sha256, size = wanted["oid"], wanted["size"]
        answer: dict[str, Any] = {"oid": sha256, "size": size}
        if hub.blobs.large(sha256) is None:
            ticket = os.urandom(16).hex()
            hub.tickets[ticket] = (sha256, size)
            upload = {"href": f"{request.base_url}lfs/{sha256}?ticket={ticket}"}
            verify = {"href": f"{request.base_url}{repo.url_path}.git/info/lfs/objects/verify"}
            answer["actions"] = {"upload": upload, "verify": verify}
        objects.append(answer)
    return JSONResponse({"transfer": "basic", "objects": objects}, media_type="application/vnd.git-lfs+json")


async def put(request: Request) -> Response:
    """PUT to a link: the link is the permission, as on storage with signed URLs; no token comes here."""
    hub = hub_of(request)
    ticket = hub.tickets.get(request.query_params.get("ticket", ""))
    if ticket is None or ticket[0] != request.path_params["sha256"]:
        raise HubError(403, "The signature of this link is not valid")
    sha256, size = ticket
    digest, came = hashlib.sha256(), 0
    part = hub.blobs.folder / f".{sha256}.{os.urandom(4).hex()}"
    try:
        with open(part, "wb") as file:  # noqa: ASYNC230 - a local disk, and nobody else waits
            async for chunk in request.stream():
                digest.update(chunk)
                came += len(chunk)
                file.write(chunk)
        if came != size or digest.hexdigest() != sha256:
            raise HubError(400, f"{came} bytes came with sha256 {digest.hexdigest()}, not {size} with {sha256}")
        hub.blobs.take(part, sha256)
    finally:
        part.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{sha256}"'})


async def verify(request: Request) -> Response:
    """POST …/verify: whether the object is here as a whole."""
    repo_to_write(request)
    asked = await request.json()
    found = hub_of(request).blobs.large(asked["oid"])
    if found is None or found.size != asked["size"]:
        raise HubError(404, f"The object {asked['oid']} was not uploaded")
    return JSONResponse({})
