"""What the Hub holds: repositories with their commits, branches and tags, and how tests seed and read them.

Simpler than the real Hub: commits live in memory and end with the process; a commit's id is a hash of what is in it,
not git's own; repository ids always have an owner.

Handlers change it in the server's thread. A test may seed and read from its own: each change is one assignment of a
finished object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from .accounts import Account, OrgRole, TokenRole
from .contents import GITATTRIBUTES, Blobs, File
from .errors import no_revision
from .faults import Faults
from .watching import Watched

Kind = Literal["model", "dataset", "space"]
Gated = Literal["auto", "manual", False]


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: Commit | None
    title: str
    message: str
    author: str
    date: datetime
    files: Mapping[str, File]

    def history(self) -> list[Commit]:
        """This commit and all before it, newest first."""
        found: list[Commit] = []
        commit: Commit | None = self
        while commit is not None:
            found.append(commit)
            commit = commit.parent
        return found


@dataclass
class Repo:
    kind: Kind
    id: str
    blobs: Blobs
    private: bool = False
    gated: Gated = False
    granted: frozenset[str] = frozenset()
    """Users who may read a gated repository's files, beside its owners."""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])
    branches: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def visibility(self) -> str:
        return "private" if self.private else "public"

    @property
    def url_path(self) -> str:
        """`acme/tiny`, `datasets/acme/pairs`."""
        return self.id if self.kind == "model" else f"{self.kind}s/{self.id}"

    @property
    def head(self) -> Commit:
        """The newest commit of main."""
        return self.commits[self.branches["main"]]

    @property
    def files(self) -> dict[str, bytes]:
        """Main's files with their contents."""
        return {path: file.read() for path, file in self.head.files.items()}

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag or an id (7 digits of it or more)."""
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and len(revision) >= 7:
            oid = next((known for known in self.commits if known.startswith(revision)), None)
        if oid is None:
            raise no_revision(revision)
        return self.commits[oid]

    def commit(
        self,
        files: Mapping[str, bytes | Path],
        title: str = "Change files",
        *,
        author: str = "someone",
        branch: str = "main",
    ) -> Commit:
        """Add or replace files, as somebody else would."""
        kept = {path: self.blobs.keep(path, content) for path, content in files.items()}
        before = self.commits[self.branches[branch]].files if branch in self.branches else {}
        return self.move_on(branch, {**before, **kept}, title=title, author=author)

    def move_on(self, branch: str, files: Mapping[str, File], *, title: str, message: str = "", author: str) -> Commit:
        """A new commit with exactly these files becomes the branch's head."""
        parent = self.commits[self.branches[branch]] if branch in self.branches else None
        date = datetime.now(UTC)
        listing = "".join(f"{path}\0{file.oid}\n" for path, file in sorted(files.items()))
        before = parent.oid if parent is not None else ""
        seed = "\n".join((self.kind, self.id, before, str(len(self.commits)), date.isoformat(), title, listing))
        oid = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, dict(sorted(files.items())))
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit


class Hub:
    """The whole Hub; `serving(hub)` puts it on a port."""

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(folder / "blobs")
        self.requests = Watched(folder / "received.log")
        """Everything it was asked, in order."""
        self.faults = Faults()
        self.accounts: dict[str, Account] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tickets: dict[str, tuple[str, int]] = {}
        """Uploads that were allowed: what a signed link names to (sha256, size)."""
        self.tree_page = 1000
        """Entries of one page of a listing, as on the real Hub."""

    def received(self, needle: str | bytes) -> bool:
        """Whether these bytes were ever sent to it, in a target or a body (contents sent as base64 are decoded)."""
        return self.requests.received(needle)

    def add_user(
        self,
        name: str,
        *,
        token: str,
        role: TokenRole = "write",
        orgs: Mapping[str, OrgRole] | None = None,
        scopes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Account:
        """A token and whose it is; a user may have several. `scopes` of a fineGrained token: namespace to permissions,
        `repo.content.read` and `repo.write`; without any it may nothing."""
        account = Account(name, token, role, dict(orgs or {}), dict(scopes or {}))
        self.accounts[token] = account
        return account

    def add_repo(
        self,
        kind: Kind,
        name: str,
        files: Mapping[str, bytes | Path] | None = None,
        *,
        private: bool = False,
        gated: Gated = False,
        granted: tuple[str, ...] = (),
    ) -> Repo:
        """A repository with its first commit (`.gitattributes`), and a second with `files` where given."""
        repo = Repo(kind, name, self.blobs, private, gated, frozenset(granted))
        repo.commit({".gitattributes": GITATTRIBUTES.encode()}, "initial commit", author=repo.namespace)
        if files:
            repo.commit(files, "Upload files", author=repo.namespace)
        self.repos[kind, name] = repo
        return repo

    def repo(self, kind: Kind, name: str) -> Repo:
        """A repository that must be there."""
        return self.repos[kind, name]
