"""A bundle on the Hugging Face Hub: the repository made, every file sent, one commit, and then looked at there.

Each request is tried again with growing pauses while the trouble is a passing one (no connection, 408, 425, 429, 5xx);
huggingface_hub itself retries only some. Content is addressed by its hash on the Hub, so what a former try sent is not
sent again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from json import JSONDecodeError
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from .bundles import HUBS_OWN, Item, git_blob
from .failures import Failure, explain
from .push import Say, Stopping

T = TypeVar("T")

#: A request that came at a bad moment; 409 and 412: somebody else, or our own unanswered commit, was first. The next
#: try looks at the repository again and decides.
_PASSING = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})

#: Seconds between tries, doubled each time; and how long to go on trying where the request doesn't say.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
PATIENCE_SECONDS = 900.0

#: Seconds that a stop waits to learn whether a commit got through.
_STOP_SECONDS = 12.0

#: How Xet words a refusal.
_REFUSED = re.compile(r"\(40[13]\b")


class Publication:
    """One bundle on its way to one repository."""

    def __init__(
        self, items: Sequence[Item], small: Mapping[str, bytes], asked: dict[str, Any], say: Say, stopping: Stopping
    ) -> None:
        """`small`: contents by name; they go out as they were compared, whatever becomes of the files."""
        self._items = items
        self._repo: str = asked["target"]["repo"]
        self._private: bool = asked["target"]["private"]
        self._base: str | None = asked.get("base_commit")
        self._removes: list[str] = asked.get("removes") or []
        self._message: str = asked.get("message") or "Upload with Model Trainer"
        self._patience: float = asked.get("patience_seconds") or PATIENCE_SECONDS
        self._say = say
        self._stopping = stopping
        self._api = HfApi()
        self._small = small

    def publish(self) -> dict[str, Any]:
        """Where the bundle is now, once every file of it was found there.

        Raises:
            Failure: see `push.push`.
        """
        self._patiently("opening the repository", self._open)
        head = self._patiently("looking at the repository", self._head)
        if self._patiently("looking at the repository", lambda: self._differences(head)):
            self._refuse_unless_agreed(head)
            additions = self._send()
            self._stopping.held = True
            head = self._patiently("committing", lambda: self._commit(additions))
        self._stopping.held = True
        self._say(len(self._items), len(self._items), "comparing sizes and hashes on the Hub")
        self._patiently("verifying", self._head)
        if wrong := self._patiently("verifying", lambda: self._differences(head)):
            raise Failure("incomplete", f"{self._repo} doesn't hold what was sent: {'; '.join(wrong[:3])}")
        return {
            "where": f"{self._api.endpoint}/{self._repo}",
            "commit": head,
            "private": self._private,
            "files": len(self._items),
            "bytes": sum(item.size for item in self._items),
        }

    def _open(self) -> None:
        """Make the repository where there is none; one that is there must be as visible as was agreed."""
        try:
            self._head()
        except RepositoryNotFoundError:
            try:
                self._api.create_repo(self._repo, private=self._private)
            except HfHubHTTPError as error:
                # Our own unanswered request may have made it: the next look decides.
                if error.response.status_code != 409:
                    raise
            self._head()

    def _head(self) -> str:
        """The newest commit of the very repository that was agreed on, as visible as was agreed."""
        info = self._api.repo_info(self._repo)
        if info.id != self._repo:
            raise Failure(
                "guard", f"{self._repo} is now called {info.id}, which was not agreed on. Nothing was published"
            )
        if bool(info.private) != self._private:
            is_now, agreed = ("private", "public") if info.private else ("public", "private")
            raise Failure("guard", f"{self._repo} is {is_now}; {agreed} was agreed on")
        return str(info.sha)

    def _tree(self, commit: str) -> dict[str, RepoFile]:
        entries = self._api.list_repo_tree(self._repo, revision=commit, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def _differences(self, commit: str) -> list[str]:
        """What at that commit is not as agreed, by size and hash; empty if all is."""
        tree = self._tree(commit)
        wrong = [f"{name} is still there" for name in self._removes if name in tree]
        for item in self._items:
            there = tree.get(item.path)
            if there is None:
                wrong.append(f"{item.path} is missing")
            elif there.size != item.size:
                wrong.append(f"{item.path} has {there.size} bytes in place of {item.size}")
            elif (there.lfs.sha256 if there.lfs else there.blob_id) != (item.sha256 if there.lfs else self._blob(item)):
                wrong.append(f"{item.path} has other bytes")
        return wrong

    def _blob(self, item: Item) -> str | None:
        """Git's name of a small file's content; None for a big one, which git doesn't keep on the Hub."""
        return git_blob(self._small[item.path]) if item.path in self._small else None

    def _refuse_unless_agreed(self, head: str) -> None:
        """Stop unless the repository is as it was when this was agreed on, or holds nothing that could be lost."""
        if head != self._base and (there := sorted(self._tree(head).keys() - HUBS_OWN)):
            raise Failure(
                "guard",
                f"{self._repo} is not as it was when this was agreed on: it holds {', '.join(there[:5])}"
                f"{' and more' if len(there) > 5 else ''} at commit {head[:10]}. Nothing was published",
            )

    def _send(self) -> list[CommitOperationAdd]:
        """Send the big files, one by one; small ones go with the commit.

        What goes is what was agreed on, whatever happens to the files meanwhile: small ones are held in memory, and of
        big ones the client's own hash of what it sent is compared before the commit makes them visible.
        """
        additions: list[CommitOperationAdd] = []
        for number, item in enumerate(self._items):
            self._say(number, len(self._items), f"sending {item.path} ({_size(item.size)})")
            addition = CommitOperationAdd(item.path, self._small.get(item.path, item.source))
            self._patiently(f"sending {item.path}", partial(self._send_one, addition))
            if addition.upload_info.sha256.hex() != item.sha256:
                raise Failure("bad_data", f"{item.path} changed while it was sent; nothing was published")
            additions.append(addition)
        return additions

    def _send_one(self, addition: CommitOperationAdd) -> None:
        self._api.preupload_lfs_files(self._repo, [addition], num_threads=1, free_memory=False)

    def _commit(self, additions: list[CommitOperationAdd]) -> str:
        """The commit that holds all; one that a former try made without hearing of it counts."""
        head = self._head()
        if not self._differences(head):
            return head
        if self._stopping.asked:
            raise KeyboardInterrupt
        self._refuse_unless_agreed(head)
        there = self._tree(head)
        operations = [*additions, *(CommitOperationDelete(name) for name in self._removes if name in there)]
        self._say(len(additions), len(additions), "committing")
        made = self._api.create_commit(self._repo, operations, commit_message=self._message, parent_commit=head)
        return str(made.oid)

    def _patiently(self, doing: str, work: Callable[[], T]) -> T:
        """What `work` gives, tried again while its trouble is a passing one."""
        pause, give_up = _FIRST_PAUSE, time.monotonic() + self._patience
        while True:
            try:
                return work()
            except (HfHubHTTPError, httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
                failure, passing = classify(error, self._repo, doing)
                if isinstance(error, RevisionNotFoundError) and self._stopping.held:
                    # A commit that was just made may not be listed yet.
                    passing = True
                if self._stopping.asked:
                    pause, give_up = _FIRST_PAUSE, min(give_up, time.monotonic() + _STOP_SECONDS)
                if not passing or time.monotonic() + pause > give_up:
                    raise (KeyboardInterrupt if self._stopping.asked else failure) from None
                self._say(0, len(self._items), f"{doing}: {failure.detail[:120]}; trying again")
                time.sleep(max(pause, 0.0 if self._stopping.asked else _retry_after(error)))
                pause = min(2 * pause, _LONGEST_PAUSE)


def classify(error: BaseException, repo: str, doing: str) -> tuple[Failure, bool]:
    """The failure that an error of the client would be, and whether it may pass.

    Uploads arrive wrapped: a refused LFS upload as a RuntimeError with the refusal behind it, one that Xet refused as a
    ConnectionError that only says so ("(403 …").
    """
    behind = list(_causes(error))
    refusal = next((one for one in behind if isinstance(one, HfHubHTTPError)), None)
    if refusal is not None:
        return _from_status(refusal, repo, doing)
    text = " ".join(str(one) for one in behind)
    if any(isinstance(one, LocalTokenNotFoundError) for one in behind):
        return Failure("auth", f"{doing}: no Hugging Face token reached this run; `hf auth login` stores one"), False
    if any(isinstance(one, OfflineModeIsEnabled) for one in behind):
        return Failure("communication", f"{doing}: HF_HUB_OFFLINE forbids every request to the Hub"), False
    names = {type(one).__name__ for one in behind}
    if "XetAuthenticationError" in names or (isinstance(error, ConnectionError) and _REFUSED.search(text)):
        return Failure("auth", f"{doing}: the Hub's storage doesn't accept the token; it needs write access"), False
    if any(isinstance(one, (httpx.HTTPError, ConnectionError, TimeoutError, JSONDecodeError)) for one in behind):
        return Failure("communication", f"{doing}: the Hub can't be reached ({type(error).__name__})"), True
    if any(name.startswith("Xet") for name in names) or isinstance(error, RuntimeError):
        return Failure("communication", f"{doing}: the upload broke off ({type(error).__name__})"), True
    if isinstance(error, FileNotFoundError):
        return Failure("bad_data", f"{doing}: {error.filename} is gone; nothing was published"), False
    if isinstance(error, ValueError):
        return Failure("bad_data", f"{doing}: the Hub's client refuses this: {str(error)[:300]}"), False
    return explain(error), False


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; not what was handled meanwhile, such as the 404 before a creation."""
    one: BaseException | None = error
    for _ in range(10):
        if one is None:
            return
        yield one
        one = one.__cause__


def _from_status(error: HfHubHTTPError, repo: str, doing: str) -> tuple[Failure, bool]:
    status = error.response.status_code
    said = f" It says: {error.server_message}" if error.server_message else ""
    if status in _PASSING:
        return Failure("communication", f"{doing}: the Hub answers {status}.{said}"), True
    known = {
        401: ("auth", "the Hub doesn't accept the token (401); `hf auth login` stores a valid one."),
        402: ("budget", "the Hub asks for payment (402)."),
        403: ("auth", f"the token may not write to {repo} (403); it needs write access there."),
        404: ("auth", f"there is no repository {repo} that the token may see and write to (404)."),
    }
    reason, what = known.get(status, ("bad_data", f"the Hub refuses this request ({status})."))
    return Failure(reason, f"{doing}: {what}{said}"), False


def _retry_after(error: BaseException) -> float:
    """Seconds that the Hub asks to wait, within bounds; 0 where it doesn't."""
    said = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(said), 2 * _LONGEST_PAUSE) if said.isdigit() else 0.0


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
