"""Files by revision and path: HEAD and GET of /{repo}/resolve/…, with ranges.

Simpler than the real Hub: large files come from the same address, not by a redirect to a storage host.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from .accounts import repo_to_read
from .errors import no_entry
from .repos import revision_of


async def resolve(request: Request) -> Response:
    """What huggingface_hub caches by (file_download.py): X-Repo-Commit, ETag, and X-Linked-* of a large file."""
    repo = repo_to_read(request)
    commit = repo.at(revision_of(request))
    path = request.path_params["path"].replace("%2F", "/")
    file = commit.files.get(path)
    if file is None:
        raise no_entry(path, commit.oid)
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"'}
    if file.sha256:
        headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    return FileResponse(file.stored, headers=headers, filename=path.rpartition("/")[2])
