"""The yes that publishing needs: bound by a digest to what it was given for, and asked of the user if that can be."""

from __future__ import annotations

from ...executors.errors import PublishError
from ..app import App, Asker
from .destinations import HubRepo
from .preparing import Prepared, PushRequest
from .results import size, some


async def agree(app: App, prepared: Prepared, ask: Asker) -> None:
    """Return only with the yes that this needs: none for a new folder, which stays on this machine.

    Raises:
        PublishError: `not_confirmed`, `declined`.
    """
    request = prepared.request
    if request.confirm is not None and request.confirm != prepared.digest:
        raise PublishError(
            "not_confirmed",
            f"confirm {request.confirm[:40]!r} was given for something else: target, visibility, files or card are not "
            "what they were then, or that push is done or was stopped.",
            next_step=f"{request.call(dry_run=True)} shows what would go out now; ask the user again.",
        )
    if isinstance(prepared.target, HubRepo) or prepared.replaces is not None:
        await ask_user(app, request, prepared.digest, _question(prepared), ask)


async def ask_user(app: App, request: PushRequest, digest: str, question: str, ask: Asker) -> None:
    """Return only if the user said yes in the client's dialogue, or where there is none, by `confirm`.

    Raises:
        PublishError: `not_confirmed`, `declined`.
    """
    answer = await ask(f"publish-{digest}", question)
    if answer is False:
        raise PublishError(
            "declined",
            "The user said no, or gave no answer. Nothing was published.",
            next_step=f"Ask what should be different; {request.call(dry_run=True)} shows it again. Don't push by other "
            "means.",
        )
    if answer is None and app.settings.confirm_in_client:
        raise PublishError(
            "not_confirmed",
            "The human's settings (confirm_in_client) want publishing confirmed in a dialogue; this client has none.",
            next_step="The human runs `model-trainer call push_adapter --json '…'` in a terminal, which asks there, or "
            "uses a client with dialogues (elicitation).",
        )
    if answer is None and request.confirm is None:
        raise PublishError(
            "not_confirmed",
            "This needs a yes, and this client has no dialogue to ask for it.",
            next_step=f"{request.call(dry_run=True)} shows what would go out and gives a digest; show it to the user, "
            "and after their yes pass the digest as confirm.",
        )


def _question(prepared: Prepared) -> str:
    request, bundle = prepared.request, prepared.bundle
    on_hub = isinstance(prepared.target, HubRepo)
    lines = [
        f"Publish the {prepared.output.kind} of run {request.run_id} to the Hugging Face Hub?"
        if on_hub
        else f"Replace a folder by the {prepared.output.kind} of run {request.run_id}?",
        f"Repository: {request.destination}, {request.visibility}" if on_hub else f"Folder: {request.destination}",
        f"{len(bundle.files)} files, {size(bundle.size)}: {some([file.path for file in bundle.files], 12)}",
    ]
    if prepared.replaces:
        lines.append(f"It replaces {prepared.replaces}.")
    if prepared.removes:
        lines.append(f"It removes {some(prepared.removes, 12)}.")
    return "\n".join(lines)
