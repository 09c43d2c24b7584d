"""The loopback Hub under the real client: what it keeps, whom it lets in, and how it fails on order."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, get_session, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from hub import Hub, serving
from hub.fixtures import TOKEN

WEIGHTS = os.urandom(20 << 20)
#: Two parameters of float32: a header's length, the header, the numbers.
HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '
TINY = {
    "config.json": b'{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}',
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "model.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(8),
    "README.md": b"---\nlicense: mit\nbase_model: acme/base\nlibrary_name: peft\ntags: [tiny]\n---\n# Tiny\n",
}


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A model's folder: 20 MB of weights, a few bytes of text, one of them in a folder."""
    files = {"config.json": b"{}\n", "notes/read.txt": "gr\u00fc\u00dfe\n".encode(), "model.safetensors": WEIGHTS}
    for name, data in files.items():
        path = workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return workspace


def contents(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def puts(hub: Hub) -> list[tuple[int | None, int]]:
    """Status and received bytes of every upload of a large file."""
    return [(one.status, one.bytes_received) for one in hub.requests.matching("PUT", "^/lfs/")]


def test_what_is_uploaded_is_downloaded_byte_for_byte(hub: Hub, api: HfApi, folder: Path, tmp_path: Path):
    api.create_repo("acme/m", private=True)
    made = api.upload_folder(repo_id="acme/m", folder_path=folder, commit_message="Three files")
    wanted = contents(folder)
    got = snapshot_download("acme/m", endpoint=api.endpoint, token=TOKEN, cache_dir=tmp_path / "cache")
    assert contents(got) == {**wanted, ".gitattributes": hub.repo("model", "acme/m").files[".gitattributes"]}
    one = hf_hub_download("acme/m", "model.safetensors", endpoint=api.endpoint, token=TOKEN, cache_dir=tmp_path / "one")
    assert Path(one).read_bytes() == WEIGHTS
    held = hub.repo("model", "acme/m")
    assert held.visibility == "private"
    assert [commit.title for commit in held.head.history()] == ["Three files", "initial commit"]
    assert held.head.oid == made.oid
    assert held.head.files["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert held.head.files["config.json"].sha256 is None
    # A signed link needs no token, and the storage gets none.
    assert [one.authorization for one in hub.requests.matching("PUT", "^/lfs/")] == [None]


def test_the_same_folder_again_makes_no_commit(hub: Hub, api: HfApi, folder: Path):
    # The client compares the hashes that the Hub names with its own: git's of the text, sha256 of the weights.
    api.create_repo("acme/m")
    first = api.upload_folder(repo_id="acme/m", folder_path=folder)
    assert api.upload_folder(repo_id="acme/m", folder_path=folder).oid == first.oid
    assert len(hub.requests.matching("POST", "/commit/")) == 1


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
    hub.add_repo("model", "acme/m", {"model.safetensors": WEIGHTS})
    hub.faults.add("GET", r"/resolve/.*safetensors$", cut="download", after_bytes=15_000_000)
    path = hf_hub_download("acme/m", "model.safetensors", endpoint=api.endpoint, token=TOKEN, cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS
    assert [one.status for one in hub.requests.matching("GET", "/resolve/")] == [200, 206]


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


def test_an_existing_repository_is_refused_with_its_address(hub: Hub, api: HfApi):
    hub.add_repo("dataset", "acme/pairs")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo("acme/pairs", repo_type="dataset")
    assert refused.value.response.status_code == 409
    found = api.create_repo("acme/pairs", repo_type="dataset", exist_ok=True)
    assert (found.repo_id, found.repo_type) == ("acme/pairs", "dataset")


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


def test_whoami_tells_the_user_and_what_the_token_may(hub: Hub, api: HfApi):
    told = api.whoami()
    assert told["name"] == "ada"
    assert [org["name"] for org in told["orgs"]] == ["acme"]
    assert told["auth"]["accessToken"]["role"] == "write"
    with pytest.raises(HfHubHTTPError) as refused:
        api.whoami(token="hf_wrong")
    assert refused.value.response.status_code == 401
    assert [one.authorization for one in hub.requests] == [f"Bearer {TOKEN}", "Bearer hf_wrong"]


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


def test_tags_name_commits_and_what_is_not_there_is_told_apart(hub: Hub, api: HfApi, tmp_path: Path):
    repo = hub.add_repo("model", "acme/m", {"a.txt": b"old"})
    old = repo.head.oid
    repo.commit({"a.txt": b"new"}, "Newer")
    api.create_tag("acme/m", tag="v1/first", revision=old)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag("acme/m", tag="v1/first")
    assert refused.value.response.status_code == 409
    assert api.model_info("acme/m", revision="v1/first").sha == old
    assert [(tag.name, tag.target_commit) for tag in api.list_repo_refs("acme/m").tags] == [("v1/first", old)]
    assert [commit.title for commit in api.list_repo_commits("acme/m")] == ["Newer", "Upload files", "initial commit"]

    def download(name: str, revision: str) -> bytes:
        path = hf_hub_download("acme/m", name, revision=revision, endpoint=api.endpoint, cache_dir=tmp_path)
        return Path(path).read_bytes()

    assert download("a.txt", "v1/first") == b"old"
    assert download("a.txt", old) == b"old"
    assert download("a.txt", "main") == b"new"
    with pytest.raises(RevisionNotFoundError):
        download("a.txt", "v2")
    with pytest.raises(EntryNotFoundError):
        download("b.txt", "main")


def test_info_tells_card_files_and_parameters(hub: Hub, api: HfApi):
    repo = hub.add_repo("model", "acme/m", TINY)
    info = api.model_info("acme/m", files_metadata=True)
    assert info.sha == repo.head.oid
    assert info.tags == ["tiny", "license:mit", "base_model:acme/base", "peft", "region:us"]
    assert info.card_data is not None
    assert info.card_data.base_model == "acme/base"
    assert info.library_name == "peft"
    assert info.safetensors is not None
    assert info.safetensors.parameters == {"F32": 2}
    assert info.config is not None
    assert info.config["tokenizer_config"] == {"chat_template": "{{ messages }}"}
    sizes = {one.rfilename: (one.size, one.lfs is not None) for one in info.siblings or []}
    assert sizes["model.safetensors"] == (len(TINY["model.safetensors"]), True)
    assert sizes["config.json"] == (len(TINY["config.json"]), False)
    hub.add_repo("dataset", "acme/pairs", {"train.jsonl": b"{}\n", "README.md": b"---\nlicense: cc0-1.0\n---\n"})
    told = api.dataset_info("acme/pairs")
    assert told.card_data is not None
    assert told.card_data.license == "cc0-1.0"
    assert [one.rfilename for one in told.siblings or []] == [".gitattributes", "README.md", "train.jsonl"]


def test_a_commit_on_a_parent_that_is_no_longer_the_head_is_refused(hub: Hub, api: HfApi):
    repo = hub.add_repo("model", "acme/m", TINY)
    seen = repo.head.oid
    repo.commit({"theirs.txt": b"first"}, "Theirs")

    def add(parent: str) -> str:
        made = api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="acme/m", parent_commit=parent)
        return made.oid

    with pytest.raises(HfHubHTTPError) as refused:
        add(seen)
    assert refused.value.response.status_code == 412
    assert "x.txt" not in repo.files
    assert add(repo.head.oid) == repo.head.oid
    assert {"theirs.txt", "x.txt"} < set(repo.files)


def test_files_folders_and_repositories_can_be_deleted(hub: Hub, api: HfApi):
    hub.add_repo("model", "acme/m", {**TINY, "old/a.txt": b"a", "old/b.txt": b"b"})
    api.delete_file("config.json", "acme/m")
    api.delete_folder("old", "acme/m")
    left = set(TINY) - {"config.json"}
    assert set(hub.repo("model", "acme/m").files) == {*left, ".gitattributes"}
    with pytest.raises(EntryNotFoundError):
        api.delete_file("config.json", "acme/m")
    api.delete_repo("acme/m")
    assert hub.repos == {}


def test_a_listing_comes_in_pages_and_tells_who_changed_what(hub: Hub, api: HfApi):
    hub.tree_page = 2
    repo = hub.add_repo("model", "acme/m", {"a/b/c.txt": b"c", "a/d.txt": b"d", "e.txt": b"e"})
    repo.commit({"e.txt": b"E"}, "Louder")
    listed = {entry.path: entry.last_commit for entry in api.list_repo_tree("acme/m", recursive=True, expand=True)}
    assert set(listed) == {"a", "a/b", "a/b/c.txt", "a/d.txt", "e.txt", ".gitattributes"}
    assert len(hub.requests.matching("GET", "/tree/")) == 3
    assert {path: commit.title for path, commit in listed.items() if commit and path[0] in "ae"} == {
        **dict.fromkeys(("a", "a/b", "a/b/c.txt", "a/d.txt"), "Upload files"),
        "e.txt": "Louder",
    }
    assert [entry.path for entry in api.list_repo_tree("acme/m", "a/b")] == ["a/b/c.txt"]
    assert {entry.path for entry in api.get_paths_info("acme/m", ["a/b", "e.txt", "none"])} == {"a/b", "e.txt"}


def test_whatever_was_sent_can_be_found(hub: Hub, api: HfApi, folder: Path):
    (folder / "secret.txt").write_text("canary-in-text " * 100, encoding="utf-8")
    (folder / "secret.safetensors").write_bytes(b"\0canary-in-weights")
    api.create_repo("acme/canary-in-name")
    api.upload_folder(repo_id="acme/canary-in-name", folder_path=folder)
    for sent in ("canary-in-text", b"canary-in-weights", "canary-in-name"):
        assert hub.received(sent)
    assert not hub.received("canary-that-was-never-sent")


def test_bytes_that_are_not_what_was_announced_are_not_kept(hub: Hub, api: HfApi):
    hub.add_repo("model", "acme/m")
    sha256 = hashlib.sha256(b"announced").hexdigest()
    asked = {"operation": "upload", "objects": [{"oid": sha256, "size": 9}]}
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = get_session().post(f"{api.endpoint}/acme/m.git/info/lfs/objects/batch", json=asked, headers=headers)
    link = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert get_session().put(link.partition("?")[0], content=b"announced").status_code == 403
    assert get_session().put(link, content=b"different").status_code == 400
    assert hub.blobs.large(sha256) is None
    assert get_session().put(link, content=b"announced").status_code == 200
    assert hub.blobs.large(sha256) is not None


def test_a_commit_with_a_change_that_cannot_be_made_changes_nothing(hub: Hub, api: HfApi):
    repo = hub.add_repo("model", "acme/m", TINY)
    before = repo.head
    lines = (
        b'{"key": "header", "value": {"summary": "Half"}}\n'
        b'{"key": "file", "value": {"path": "new.txt", "content": "bmV3", "encoding": "base64"}}\n'
        b'{"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": "%s", "size": 1}}\n' % (b"0" * 64)
    )
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-ndjson"}
    answer = get_session().post(f"{api.endpoint}/api/models/acme/m/commit/main", content=lines, headers=headers)
    assert answer.status_code == 400
    assert repo.head is before


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


def test_a_readme_whose_metadata_cannot_be_read_is_refused_before_anything_is_sent(hub: Hub, api: HfApi):
    repo = hub.add_repo("model", "acme/m")
    before = repo.head
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="acme/m")
    assert repo.head is before
    assert hub.requests.matching("POST", "/preupload/") == []


def test_a_hub_that_fails_by_itself_says_so_when_it_ends(hub: Hub, online: str):
    repo = hub.add_repo("model", "acme/m", TINY)
    repo.branches["main"] = "a commit that is not there"
    with pytest.raises(ExceptionGroup) as failed, serving(hub) as address:
        assert get_session().get(f"{address}/api/models/acme/m").status_code == 500
    assert isinstance(failed.value.exceptions[0], KeyError)
    hub.requests.clear()


def test_the_program_serves_until_its_stdin_ends(api: HfApi, folder: Path, tmp_path: Path):
    command = [sys.executable, "-m", "hub", "--folder", str(tmp_path / "own"), "--user", "ada:hf_cli:acme"]
    command += ["--repo", f"model:acme/m={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        client = HfApi(endpoint=program.stdout.readline().decode().strip(), token="hf_cli")
        assert [one.rfilename for one in client.model_info("acme/m").siblings or []] == [
            *(".gitattributes", "config.json", "model.safetensors", "notes/read.txt")
        ]
        client.create_repo("acme/new")
        program.stdin.close()
        assert program.wait(30) == 0


def test_the_program_dies_with_its_parent(tmp_path: Path):
    # The parent leaves its own stdin and stdout to the program, so that only the parent's death can end it.
    start = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'hub', '--folder', sys.argv[1]])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", start, str(tmp_path / "own")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert parent.stdout.readline().startswith(b"http://127.0.0.1:")
        parent.send_signal(signal.SIGKILL)
        # The program holds the other end; it is gone when that ends.
        assert parent.stdout.read() == b""
