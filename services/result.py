"""The base of what tools answer: a frozen model, and a text form that is complete by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

#: No answer is longer, whatever the size of the run: a ceiling for the text form, in characters (about 1,500 tokens).
TEXT_LIMIT = 6000
#: What of it the next step may take: paths of the caller's may be long.
_STEP_LIMIT = 3000


class Frozen(BaseModel):
    """A part of an answer."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Result(Frozen, ABC):
    """A tool's answer. Some clients show the model only the structure, some only the text: both say all."""

    next_step: Annotated[str, Field(description="The tool or command that comes next, ready to use")]

    @abstractmethod
    def body(self) -> str:
        """The text form without the next step: short lines, no markup that needs rendering."""

    def image(self) -> bytes | None:
        """A PNG that goes with the text, for clients that show pictures."""
        return None

    def text(self) -> str:
        """The text form, within `TEXT_LIMIT`."""
        step = self.next_step if len(self.next_step) <= _STEP_LIMIT else f"{self.next_step[: _STEP_LIMIT - 1]}…"
        tail = f"\nNext: {step}"
        body = self.body()
        if len(body) + len(tail) > TEXT_LIMIT:
            body = body[: TEXT_LIMIT - len(tail) - 40].rstrip() + "\n[cut: the structured result has the rest]"
        return body + tail
