"""What write_config answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..result import Result


class WriteConfigResult(Result):
    path: Annotated[str, Field(description="The config file")]
    digest: Annotated[str, Field(description="What the config means; comments, form and key order don't count")]
    source: Annotated[str, Field(description="What it was made from")]
    summary: Annotated[str, Field(description="Method, model, adapter and data in one line")]
    written: Annotated[bool, Field(description="False: the file held exactly this already")]
    backup: Annotated[str | None, Field(description="Where the file that was replaced lies now")]
    diff: Annotated[str, Field(description="Unified diff to the source, at most 40 lines; empty where nothing changed")]
    warnings: Annotated[list[str], Field(description="What will train, but perhaps not as meant")]

    def body(self) -> str:
        lines = [
            f"{'Wrote' if self.written else 'Unchanged:'} {self.path} (digest {self.digest})",
            f"{self.summary}; from {self.source}.",
        ]
        if self.backup is not None:
            lines.append(f"The former file is {self.backup}.")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        lines.append(f"Changed:\n{self.diff}" if self.diff else "Nothing changed against the source.")
        return "\n".join(lines)
