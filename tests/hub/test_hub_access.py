"""Whom the loopback Hub lets in, as the real client sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)

from hub import Hub
from hub.contents_made import TINY
from hub.fixtures import TOKEN


def test_whoami_tells_the_user_and_what_the_token_may(hub: Hub, api: HfApi):
    told = api.whoami()
    assert told["name"] == "ada"
    assert [org["name"] for org in told["orgs"]] == ["acme"]
    assert told["auth"]["accessToken"]["role"] == "write"
    with pytest.raises(HfHubHTTPError) as refused:
        api.whoami(token="hf_wrong")
    assert refused.value.response.status_code == 401
    assert [one.authorization for one in hub.requests] == [f"Bearer {TOKEN}", "Bearer hf_wrong"]


def test_a_private_repository_does_not_exist_for_others(hub: Hub, api: HfApi, tmp_path: Path):
    hub.add_repo("model", "acme/m", TINY, private=True)
    hub.add_user("eve", token="hf_eve")
    hub.add_user("ada", token="hf_nothing", role="fineGrained", orgs={"acme": "write"})
    for token, status in (("hf_eve", 404), ("hf_nothing", 404), (False, 401)):
        asked: list[Callable[[], Any]] = [
            lambda token=token: api.model_info("acme/m", token=token),
            lambda token=token: list(api.list_repo_tree("acme/m", token=token)),
            lambda token=token: hf_hub_download(
                "acme/m", "config.json", endpoint=api.endpoint, token=token, cache_dir=tmp_path
            ),
            lambda token=token: api.create_tag("acme/m", tag="mine", token=token),
        ]
        for ask in asked:
            with pytest.raises(RepositoryNotFoundError) as refused:
                ask()
            assert refused.value.response.status_code == status
    hub.add_user("bob", token="hf_bob", role="read", orgs={"acme": "read"})
    assert api.model_info("acme/m", token="hf_bob").private


def test_only_tokens_that_may_write_write(hub: Hub, api: HfApi):
    hub.add_repo("model", "acme/m", TINY)
    hub.add_user("ada", token="hf_reads", role="read", orgs={"acme": "write"})
    hub.add_user("bob", token="hf_bob", orgs={"acme": "read"})
    hub.add_user("ada", token="hf_scoped", role="fineGrained", orgs={"acme": "write"}, scopes={"acme": ("repo.write",)})
    for token in ("hf_reads", "hf_bob"):
        for attempt in (
            lambda token=token: api.create_repo("acme/new", token=token),
            lambda token=token: api.upload_file(
                path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="acme/m", token=token
            ),
            lambda token=token: api.delete_repo("acme/m", token=token),
            lambda token=token: api.auth_check("acme/m", write=True, token=token),
        ):
            with pytest.raises(HfHubHTTPError) as refused:
                attempt()
            assert refused.value.response.status_code == 403
    api.create_repo("acme/new", token="hf_scoped")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo("ada/new", token="hf_scoped")
    assert refused.value.response.status_code == 403
    assert set(hub.repos) == {("model", "acme/m"), ("model", "acme/new")}


def test_a_gated_models_page_is_open_and_its_files_are_not(hub: Hub, api: HfApi, tmp_path: Path):
    hub.add_repo("model", "acme/m", TINY, gated="manual", granted=("bob",))
    hub.add_user("bob", token="hf_bob")
    hub.add_user("eve", token="hf_eve")

    def download(token: str | bool) -> Path:
        return Path(
            hf_hub_download(
                "acme/m", "config.json", endpoint=api.endpoint, token=token, cache_dir=tmp_path / str(token)
            )
        )

    for token, status in (("hf_eve", 403), (False, 401)):
        assert api.model_info("acme/m", token=token).gated == "manual"
        for attempt in (lambda token=token: download(token), lambda token=token: api.auth_check("acme/m", token=token)):
            with pytest.raises(GatedRepoError) as refused:
                attempt()
            assert refused.value.response.status_code == status
    for token in ("hf_bob", TOKEN):
        assert download(token).read_bytes() == TINY["config.json"]


def test_settings_and_branches_change_what_was_made(hub: Hub, api: HfApi):
    repo = hub.add_repo("model", "acme/m", TINY)
    api.update_repo_settings("acme/m", private=True, gated="auto")
    assert (repo.visibility, repo.gated) == ("private", "auto")
    start = repo.head.oid
    api.create_branch("acme/m", branch="try/it")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="acme/m", revision="try/it")
    assert repo.head.oid == start
    assert "x.txt" in repo.at("try/it").files
    api.delete_branch("acme/m", branch="try/it")
    assert list(repo.branches) == ["main"]
