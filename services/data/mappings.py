"""Mappings of foreign rows to TRL's formats: proposed from column names and kinds, never applied by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass

from ...trainer.contract import FOREIGN_ROLES, FORMATS, METHODS, ROLES
from ..configs.schema import Dataset, Turns
from .results import Mapping

_PROMPTS = ("prompt", "question", "instruction", "query", "problem", "user", "human", "input", "source", "q")
_COMPLETIONS = ("completion", "answer", "response", "output", "solution", "assistant", "reply", "target", "a")
_CONTEXTS = ("context", "passage", "document", "background")
_CHOSEN = ("chosen", "preferred", "accepted", "winner", "better", "chosen_response", "response_chosen", "response_j")
_REJECTED = (
    "rejected",
    "dispreferred",
    "refused",
    "loser",
    "worse",
    "rejected_response",
    "response_rejected",
    "response_k",
)
_LABELS = ("label", "desirable", "is_good", "good", "thumbs_up", "liked", "correct")
_CLASSES = ("label", "class", "category", "sentiment", "intent", "target")
_TEXTS = ("text", "sentence", "review", "comment", "tweet", "content", "body")
_DOCUMENTS = ("text", "content", "body", "document", "article", "story", "code")
_LIMIT = 4


@dataclass(frozen=True)
class Source:
    """One column as the scan saw it."""

    name: str
    kind: str | None
    turn_keys: tuple[str, str] | None
    roles: MappingOf[str, int]


@dataclass(frozen=True)
class _Columns:
    """Columns by lower-case name."""

    by_name: dict[str, Source]

    def first(self, names: Iterable[str], *kinds: str) -> str | None:
        """The caller's spelling of the first of `names` that is there and holds one of `kinds`."""
        for name in names:
            found = self.by_name.get(name)
            if found is not None and found.kind in kinds:
                return found.name
        return None


def propose(path: str, split: str | None, sources: Sequence[Source], usable: Sequence[str]) -> list[Mapping]:
    """At most four mappings, the most telling first; none into a format that the rows have already.

    `usable` are the columns that are as TRL needs them, so that nothing is proposed to be what it is.
    """
    columns = _Columns({source.name.lower(): source for source in sources})
    has = {shape.name for shape in FORMATS.values() if shape.fits(usable)}
    found = [
        *_chats(sources),
        *_preferences(columns),
        *_verdicts(columns),
        *_alpaca(columns),
        *_pairs(columns),
        *_classes(columns),
        *_documents(columns),
    ]
    proposals: list[Mapping] = []
    taken: set[str] = set()
    for name, format_name, reason, mapped, turns in found:
        if format_name in has or format_name in taken:
            continue
        taken.add(format_name)
        proposals.append(
            Mapping(
                name=name,
                reason=reason,
                format=format_name,
                methods=[method.name for method in METHODS.values() if format_name in method.formats],
                entry=Dataset(path=path, split=split, columns=mapped, turns=turns),
            )
        )
    return proposals[:_LIMIT]


_Found = tuple[str, str, str, dict[str, str | list[str]] | None, Turns | None]


def _chats(sources: Sequence[Source]) -> Iterable[_Found]:
    """ShareGPT and its kin: a column of turns under other keys, roles or another name."""
    for source in sources:
        if source.kind != "turns" or source.turn_keys is None or source.name in ("prompt", "completion", "chosen"):
            continue
        role, content = source.turn_keys
        roles = {name: FOREIGN_ROLES[name] for name in source.roles if name in FOREIGN_ROLES}
        if source.name == "messages" and (role, content) == ("role", "content") and not roles:
            continue
        unknown = [name for name in source.roles if name not in FOREIGN_ROLES and name not in ROLES]
        turns = (
            None
            if (role, content) == ("role", "content") and not roles
            else Turns(role=role, content=content, roles=roles)
        )
        columns: dict[str, str | list[str]] | None = None if source.name == "messages" else {"messages": source.name}
        if columns is not None and any(other.name == "tools" for other in sources):
            columns["tools"] = "tools"
        reason = f"{source.name} holds turns of {role} and {content}"
        if roles:
            reason += ", with roles " + ", ".join(f"{theirs} → {ours}" for theirs, ours in roles.items())
        if unknown:
            reason += f"; add to roles what these mean: {', '.join(unknown[:5])}"
        yield ("ShareGPT" if (role, content) == ("from", "value") else "chat"), "messages", reason, columns, turns


def _alpaca(columns: _Columns) -> Iterable[_Found]:
    instruction = columns.first(("instruction",), "text", "number")
    output = columns.first(("output", "response", "answer", "completion"), "text", "number")
    given = columns.first(("input", "context"), "text", "number")
    if instruction is not None and output is not None and given is not None:
        yield (
            "Alpaca",
            "prompt_completion",
            f"{instruction} and {given} (where not empty) are joined by a blank line; {output} is the answer",
            {"prompt": [instruction, given], "completion": output},
            None,
        )


def _pairs(columns: _Columns) -> Iterable[_Found]:
    prompt = columns.first(_PROMPTS, "text")
    completion = columns.first(_COMPLETIONS, "text")
    if prompt is None or completion is None or prompt == completion:
        return
    context = columns.first(_CONTEXTS, "text")
    mapped: dict[str, str | list[str]] = {"prompt": prompt, "completion": completion}
    reason = f"{prompt} is asked, {completion} is learned"
    if context is not None:
        mapped["prompt"] = [context, prompt]
        reason += f"; {context} stands before the question"
    yield f"{prompt}/{completion}", "prompt_completion", reason, mapped, None


def _preferences(columns: _Columns) -> Iterable[_Found]:
    chosen = columns.first(_CHOSEN, "text", "turns")
    rejected = columns.first(_REJECTED, "text", "turns")
    if chosen is None or rejected is None:
        return
    prompt = columns.first(_PROMPTS, "text", "turns")
    mapped: dict[str, str | list[str]] = {} if prompt is None else {"prompt": prompt}
    mapped |= {"chosen": chosen, "rejected": rejected}
    format_name = "implicit_preference" if prompt is None else "preference"
    yield "preference pairs", format_name, f"{chosen} is preferred to {rejected}", mapped, None


def _verdicts(columns: _Columns) -> Iterable[_Found]:
    prompt = columns.first(_PROMPTS, "text", "turns")
    completion = columns.first(_COMPLETIONS, "text", "turns")
    label = columns.first(_LABELS, "boolean")
    if prompt is not None and completion is not None and label is not None and prompt != completion:
        reason = f"{label} says whether {completion} is good"
        mapped: dict[str, str | list[str]] = {"prompt": prompt, "completion": completion, "label": label}
        yield "good and bad answers", "unpaired_preference", reason, mapped, None


def _classes(columns: _Columns) -> Iterable[_Found]:
    text = columns.first(_TEXTS, "text")
    label = columns.first(_CLASSES, "text", "integer", "number", "boolean")
    if text is not None and label is not None:
        yield "classes", "labeled_text", f"{label} is the class of {text}", {"text": text, "label": label}, None


def _documents(columns: _Columns) -> Iterable[_Found]:
    text = columns.first(_DOCUMENTS, "text")
    if text is not None:
        yield "documents", "language_modeling", f"{text} is learned whole", {"text": text}, None
