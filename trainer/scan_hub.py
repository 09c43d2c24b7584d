"""Data sets on the Hub: their data files, fetched into the Hugging Face cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .scan_files import SUPPORTED, DataFile, DataFileError, choose_split, format_of, split_of


def fetch(
    repo: str, revision: str | None, split: str | None, say: Callable[[int, int, str], None]
) -> tuple[list[DataFile], str | None]:
    """The data files of a data set's split (train where not given), in the local cache, and the commit they are of.

    Raises:
        DataFileError: dataset_not_found, dataset_gated, unreachable, or bad_format for one without such files.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx

    try:
        info = HfApi().dataset_info(repo, revision=revision, files_metadata=True, timeout=20)
        remote = [
            DataFile(Path(entry.rfilename), kind, entry.size or 0, split_of(entry.rfilename))
            for entry in info.siblings or []
            if (kind := format_of(entry.rfilename)) and Path(entry.rfilename).name != "dataset_infos.json"
        ]
        if not remote:
            raise DataFileError(
                "bad_format",
                f"The data set {repo} holds no files of {SUPPORTED}.",
                next_step=f"Give another data set, or `hf download {repo} --repo-type dataset`, convert it, and call "
                "inspect_dataset with the folder.",
            )
        wanted = choose_split(remote, split, repo)
        wanted = [file for file in wanted if file.kind == wanted[0].kind]
        total, done, local = sum(file.size for file in wanted), 0, list[DataFile]()
        for file in wanted:
            say(done, total, f"fetching {file.path} of {repo}")
            path = Path(hf_hub_download(repo, str(file.path), repo_type="dataset", revision=info.sha))
            local.append(DataFile(path, file.kind, path.stat().st_size, file.split))
            done += file.size
        return local, info.sha
    except GatedRepoError as error:
        raise DataFileError(
            "dataset_gated",
            f"The data set {repo} is gated: its authors grant access on request.",
            next_step=f"Ask the human to request access on the page of {repo} and to run `hf auth login`.",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        shown = f"{repo} at revision {revision}" if revision else repo
        raise DataFileError(
            "dataset_not_found",
            f"There is no file {repo!r} in the workspace, and no data set {shown} that this account sees on the Hub.",
            next_step="Check the spelling; for a private one the human runs `hf auth login`.",
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        # A download that was refused arrives as one that failed, with the refusal as its cause.
        answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if answer is not None and answer.status_code in (401, 403):
            raise DataFileError(
                "dataset_gated",
                f"The Hub doesn't let this account read the data set {repo} ({answer.status_code}): its token isn't "
                "valid, or isn't allowed to.",
                next_step="Ask the human to run `hf auth login` with a valid token.",
            ) from error
        raise DataFileError(
            "unreachable",
            f"There is no file {repo!r} in the workspace, and the Hub can't be reached for a data set of that name "
            f"({type(error).__name__}).",
            next_step=f"Give a local file, or call inspect_dataset(path={repo!r}) again with a network (and without "
            "HF_HUB_OFFLINE).",
        ) from error
