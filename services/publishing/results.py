"""What push_adapter answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ..result import Frozen, Result

#: Files that an answer names, and what of the card stands in it.
FILES_SHOWN = 60
CARD_SHOWN = 4000


Status = Literal["preview", "started", "already"]


class PushFile(Frozen):
    path: str
    size: Annotated[int, Field(description="Bytes")]
    sha256: str


class PushResult(Result):
    status: Annotated[
        Status, Field(description="preview: nothing is sent; already: exactly this is there, or on its way")
    ]
    run_id: Annotated[str, Field(description="The training run whose output it is")]
    destination: str
    visibility: Literal["private", "public", "local"]
    confirm: Annotated[str, Field(description="Digest of target, visibility and files, for confirm")]
    push_run_id: Annotated[str | None, Field(description="The run that pushes, for get_run")] = None
    kind: Literal["adapter", "model"]
    files: Annotated[list[PushFile], Field(description="Exactly what goes out (at most 60 named)")]
    file_count: int
    total_bytes: int
    left_out: Annotated[list[str], Field(description="In the output folder, never sent (at most 60)")] = []
    replaces: Annotated[str | None, Field(description="What stands at the destination and is written over")] = None
    removes: Annotated[
        list[str], Field(description="Files of the former model that go, kept in its history (at most 60)")
    ] = []
    remove_count: int = 0
    card: Annotated[str | None, Field(description="The model card, in a preview")] = None
    details: Annotated[str | None, Field(description="Folder with the whole card and files.json, of a preview")] = None
    notes: list[str] = []

    def body(self) -> str:
        where = f"{self.destination} ({self.visibility})"
        if self.status == "started":
            first = f"Run {self.push_run_id} pushes the {self.kind} of {self.run_id} to {where}."
        elif self.status == "already":
            first = (
                f"{where} holds exactly the {self.kind} of {self.run_id} already; nothing was started."
                if self.push_run_id is None
                else f"Run {self.push_run_id} is this very push, to {where}; nothing was started now."
            )
        else:
            first = f"Preview: the {self.kind} of {self.run_id} to {where}. Nothing was sent."
        lines = [first, f"{self.file_count} files, {size(self.total_bytes)}:"]
        lines += [f"  {file.path}  {size(file.size)}" for file in self.files]
        if self.file_count > len(self.files):
            lines.append(f"  and {self.file_count - len(self.files)} more")
        if self.left_out:
            lines.append(f"Left out: {some(self.left_out, 20)}")
        if self.replaces:
            lines.append(f"Replaces: {self.replaces}")
        if self.removes:
            lines.append(f"Removes {self.remove_count}: {some(self.removes, 20)}")
        lines += self.notes
        if self.status == "preview":
            lines += [f"confirm: {self.confirm}", f"All of it: {self.details}", "Model card:", self.card or ""]
        return "\n".join(lines)


def some(names: Sequence[str], shown: int) -> str:
    """Names in a row, at most `shown` of them, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def size(count: int) -> str:
    """Bytes for people."""
    if count >= 1e8:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
