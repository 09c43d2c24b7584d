"""How the loopback Hub fails on order, and what the real client makes of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_session, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx

from hub import Hub, serving
from hub.contents_made import BIG, TINY, WEIGHTS, contents
from hub.fixtures import TOKEN


def puts(hub: Hub) -> list[tuple[int | None, int]]:
    """Status and received bytes of every upload of a large file."""
    return [(one.status, one.bytes_received) for one in hub.requests.matching("PUT", "^/lfs/")]


def test_an_interrupted_upload_goes_on_without_what_is_there_already(hub: Hub, api: HfApi, folder: Path):
    rest = os.urandom(1 << 20)
    (folder / "rest.safetensors").write_bytes(rest)
    hub.faults.add("PUT", hashlib.sha256(rest).hexdigest(), status=403)
    api.create_repo("acme/m")
    with pytest.raises(RuntimeError, match=r"rest\.safetensors"):
        api.upload_folder(repo_id="acme/m", folder_path=folder)
    assert list(hub.repo("model", "acme/m").files) == [".gitattributes"]
    api.upload_folder(repo_id="acme/m", folder_path=folder)
    assert sorted(puts(hub), key=str) == [(200, len(rest)), (200, len(WEIGHTS)), (403, len(rest))]
    assert {name: data for name, data in hub.repo("model", "acme/m").files.items() if name != ".gitattributes"} == (
        contents(folder)
    )


def test_an_upload_that_is_cut_is_sent_again_as_a_whole(hub: Hub, api: HfApi, folder: Path):
    hub.faults.add("PUT", "^/lfs/", cut="upload", after_bytes=1_000_000)
    api.create_repo("acme/m")
    api.upload_folder(repo_id="acme/m", folder_path=folder)
    (cut, received), whole = puts(hub)
    assert cut is None
    assert 1_000_000 <= received < 2_000_000
    assert whole == (200, len(WEIGHTS))
    assert hub.repo("model", "acme/m").files["model.safetensors"] == WEIGHTS
    assert [path.name for path in hub.blobs.folder.glob(".*")] == []


def test_a_download_that_is_cut_goes_on_where_it_was(hub: Hub, api: HfApi, tmp_path: Path):
    hub.add_repo("model", "acme/m", {"big.safetensors": BIG})
    hub.faults.add("GET", r"/resolve/.*safetensors$", cut="download", after_bytes=15_000_000)
    path = hf_hub_download("acme/m", "big.safetensors", endpoint=api.endpoint, token=TOKEN, cache_dir=tmp_path)
    assert Path(path).read_bytes() == BIG
    assert [one.status for one in hub.requests.matching("GET", "/resolve/")] == [200, 206]


def test_an_answer_that_is_cut_is_no_answer(hub: Hub, api: HfApi):
    hub.add_repo("model", "acme/m", TINY)
    # As many bytes as the whole answer has, and more: the last one never comes.
    for count in (0, 40, 1_000_000):
        hub.faults.add("GET", "/api/models/acme/m$", cut="download", after_bytes=count)
        with pytest.raises(httpx.RemoteProtocolError):
            api.model_info("acme/m")
    assert [one.status for one in hub.requests] == [200, 200, 200]
    assert api.model_info("acme/m").id == "acme/m"


def test_a_commit_whose_answer_is_lost_has_happened(hub: Hub, api: HfApi, folder: Path):
    api.create_repo("acme/m")
    hub.faults.add("POST", "/commit/main$", cut="answer")
    with pytest.raises(httpx.RemoteProtocolError):
        api.upload_folder(repo_id="acme/m", folder_path=folder)
    assert hub.requests.matching("POST", "/commit/")[0].status is None
    assert hub.repo("model", "acme/m").files["model.safetensors"] == WEIGHTS
    # Whoever asks again finds nothing left to do.
    assert api.upload_folder(repo_id="acme/m", folder_path=folder).oid == hub.repo("model", "acme/m").head.oid
    assert len(hub.requests.matching("POST", "/commit/")) == 1


def test_a_request_cut_before_its_answer_has_not_happened(hub: Hub, api: HfApi):
    hub.faults.add("POST", "/api/repos/create", cut="before")
    with pytest.raises(httpx.RemoteProtocolError):
        api.create_repo("acme/m")
    assert hub.repos == {}
    api.create_repo("acme/m")
    assert list(hub.repos) == [("model", "acme/m")]


@pytest.mark.parametrize("status", [401, 403, 409, 429, 500, 502, 503])
def test_an_ordered_status_is_the_clients_own_error_as_often_as_ordered(hub: Hub, api: HfApi, status: int):
    hub.faults.add("POST", "/api/repos/create", status=status, times=2, message="not today")
    for _ in range(2):
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_repo("acme/m")
        assert refused.value.response.status_code == status
        assert "not today" in str(refused.value)
    assert hub.faults.pending == []
    assert hub.repos == {}
    api.create_repo("acme/m")


def test_the_client_waits_and_asks_again_where_it_is_told_to(hub: Hub, api: HfApi, folder: Path):
    api.create_repo("acme/m")
    hub.faults.add("POST", "/preupload/main$", status=429, headers={"Retry-After": "0"})
    api.upload_folder(repo_id="acme/m", folder_path=folder)
    assert [one.status for one in hub.requests.matching("POST", "/preupload/")] == [429, 200]


def test_a_hub_that_fails_by_itself_says_so_when_it_ends(hub: Hub, online: str):
    repo = hub.add_repo("model", "acme/m", TINY)
    repo.branches["main"] = "a commit that is not there"
    with pytest.raises(ExceptionGroup) as failed, serving(hub) as address:
        assert get_session().get(f"{address}/api/models/acme/m").status_code == 500
    assert isinstance(failed.value.exceptions[0], KeyError)
    hub.requests.clear()
