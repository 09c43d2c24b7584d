"""Every route of the Hub, in one table, and the application that serves it."""

from __future__ import annotations

from typing import cast
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from . import accounts, commits, downloads, lfs, listings, repos
from .errors import HubError, refuse
from .faults import FaultInjection
from .state import Hub, Kind
from .watching import Watch


class _KindInPath(Convertor[Kind]):
    """`models`, `datasets` and `spaces` in a path are the kinds without their last letter."""

    regex = "models|datasets|spaces"

    def convert(self, value: str) -> Kind:
        return cast("Kind", value[:-1])

    def to_string(self, value: Kind) -> str:
        return f"{value}s"


register_url_convertor("kind", _KindInPath())

_REPO = "/api/{kind:kind}/{ns}/{name}"

ROUTES = [
    Route("/api/whoami-v2", accounts.whoami, methods=["GET"]),
    Route("/api/validate-yaml", commits.validate_yaml, methods=["POST"]),
    Route("/api/repos/create", repos.create, methods=["POST"]),
    Route("/api/repos/delete", repos.delete, methods=["DELETE"]),
    Route(_REPO, listings.info, methods=["GET"]),
    Route(_REPO + "/revision/{revision}", listings.info, methods=["GET"]),
    Route(_REPO + "/tree/{revision}", listings.tree, methods=["GET"]),
    Route(_REPO + "/tree/{revision}/{path:path}", listings.tree, methods=["GET"]),
    Route(_REPO + "/paths-info/{revision}", listings.paths_info, methods=["POST"]),
    Route(_REPO + "/auth-check", accounts.auth_check, methods=["GET"]),
    Route(_REPO + "/auth-check/write", accounts.auth_check_write, methods=["GET"]),
    Route(_REPO + "/settings", repos.settings, methods=["PUT"]),
    Route(_REPO + "/refs", repos.refs, methods=["GET"]),
    Route(_REPO + "/tag/{revision}", repos.add_tag, methods=["POST"]),
    Route(_REPO + "/tag/{revision}", repos.remove_tag, methods=["DELETE"]),
    Route(_REPO + "/branch/{revision}", repos.add_branch, methods=["POST"]),
    Route(_REPO + "/branch/{revision}", repos.remove_branch, methods=["DELETE"]),
    Route(_REPO + "/preupload/{revision}", lfs.preupload, methods=["POST"]),
    Route(_REPO + "/commit/{revision}", commits.commit, methods=["POST"]),
    Route(_REPO + "/commits/{revision}", commits.history, methods=["GET"]),
    Route("/lfs/{sha256}", lfs.put, methods=["PUT"]),
    *(
        # A model's own addresses have no kind in them.
        route
        for prefix in ("/{kind:kind}/{ns}/{name}", "/{ns}/{name}")
        for route in (
            Route(prefix + ".git/info/lfs/objects/batch", lfs.batch, methods=["POST"]),
            Route(prefix + ".git/info/lfs/objects/verify", lfs.verify, methods=["POST"]),
            Route(prefix + "/resolve/{revision}/{path:path}", downloads.resolve, methods=["GET"]),
        )
    ),
]


def application(hub: Hub) -> ASGIApp:
    """The Hub as an ASGI application: watched, with its faults."""
    app = Starlette(routes=ROUTES, exception_handlers={HubError: refuse, ClientDisconnect: _gone, 404: _no_route})
    app.state.hub = hub
    return _KeepSlashes(Watch(FaultInjection(app, hub.faults), hub.requests))


async def _no_route(request: Request, _error: Exception) -> Response:
    return HubError(404, f"This Hub has no route for {request.method} {request.url.path}").response()


async def _gone(_request: Request, _error: Exception) -> Response:
    """The client broke off; nobody reads this, but the record shows it (499 as nginx has it)."""
    return Response(status_code=499)


class _KeepSlashes:
    """Leaves `%2F` encoded in the path, so that a revision or folder with slashes stays one part of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope["raw_path"]
        path = unquote(raw.decode("ascii").replace("%2F", "%252F").replace("%2f", "%252F"))
        await self.app({**scope, "path": path}, receive, send)
