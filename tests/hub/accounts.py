"""Tokens, whose they are and what they allow; `/api/whoami-v2`.

Simpler than the real Hub: of a fineGrained token's permissions only `repo.content.read` and `repo.write` count, per
namespace; organisations exist only as memberships.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .errors import HubError, gated, no_repo

if TYPE_CHECKING:
    from .state import Hub, Repo

TokenRole = Literal["read", "write", "fineGrained"]
OrgRole = Literal["read", "contributor", "write", "admin"]


@dataclass(frozen=True)
class Account:
    """One token of a user."""

    name: str
    token: str
    role: TokenRole
    orgs: dict[str, OrgRole]
    scopes: dict[str, tuple[str, ...]]

    def may_read(self, namespace: str) -> bool:
        """Whether private repositories of the namespace are open to it."""
        if namespace != self.name and namespace not in self.orgs:
            return False
        return self.role != "fineGrained" or bool({"repo.content.read", "repo.write"} & self._scope(namespace))

    def may_write(self, namespace: str) -> bool:
        if namespace != self.name and self.orgs.get(namespace, "read") == "read":
            return False
        return self.role == "write" or "repo.write" in self._scope(namespace)

    def _scope(self, namespace: str) -> set[str]:
        return set(self.scopes.get(namespace, ()))

    def described(self) -> dict[str, object]:
        """What whoami-v2 says."""
        access: dict[str, object] = {
            "displayName": "a token",
            "role": self.role,
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        if self.role == "fineGrained":
            scoped = [
                {"entity": {"type": "user" if name == self.name else "org", "name": name}, "permissions": list(allowed)}
                for name, allowed in self.scopes.items()
            ]
            access["fineGrained"] = {"global": [], "scoped": scoped}
        return {
            "type": "user",
            "id": f"user-{self.name}",
            "name": self.name,
            "fullname": self.name,
            "canPay": False,
            "isPro": False,
            "orgs": [
                {"type": "org", "id": f"org-{name}", "name": name, "fullname": name, "roleInOrg": role}
                for name, role in self.orgs.items()
            ],
            "auth": {"type": "access_token", "accessToken": access},
        }


def hub_of(request: Request) -> Hub:
    return request.app.state.hub


def caller(request: Request) -> Account | None:
    """Who asks; None without a token."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    account = hub_of(request).accounts.get(header.removeprefix("Bearer "))
    if account is None:
        # The client tells this message from a 401 that means a missing repository.
        raise HubError(401, "Invalid credentials in Authorization header")
    return account


def repo_to_see(request: Request) -> Repo:
    """The repository that a request names, if its caller may know of it."""
    account = caller(request)
    kind = request.path_params.get("kind", "model")
    repo = hub_of(request).repos.get((kind, "{ns}/{name}".format_map(request.path_params)))
    hidden = repo is None or (repo.private and (account is None or not account.may_read(repo.namespace)))
    if repo is None or hidden:
        raise no_repo(anonymous=account is None)
    return repo


def repo_to_read(request: Request) -> Repo:
    """The same, if its caller may have the files; a gated one's page is open to all, its files are not."""
    repo = repo_to_see(request)
    account = caller(request)
    if repo.gated and not (account is not None and (account.name in repo.granted or account.may_read(repo.namespace))):
        raise gated(f"{repo.kind} {repo.id}", anonymous=account is None)
    return repo


def repo_to_write(request: Request) -> tuple[Repo, Account]:
    """The same, if its caller may change it."""
    repo = repo_to_see(request)
    account = caller(request)
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if not account.may_write(repo.namespace):
        raise HubError(403, f"You don't have write access to {repo.id} with this token")
    return repo, account


async def whoami(request: Request) -> Response:
    account = caller(request)
    if account is None:
        raise HubError(401, "Invalid username or password.")
    return JSONResponse(account.described())


async def auth_check(request: Request) -> Response:
    repo_to_read(request)
    return Response()


async def auth_check_write(request: Request) -> Response:
    repo_to_write(request)
    return Response()
