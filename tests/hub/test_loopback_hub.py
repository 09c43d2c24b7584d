"""The loopback Hub under the real client: what it keeps, and what it tells of it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_session, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RevisionNotFoundError,
)

from hub import Hub
from hub.contents_made import BIG, TINY, contents
from hub.fixtures import TOKEN


def test_what_is_uploaded_is_downloaded_byte_for_byte(hub: Hub, api: HfApi, folder: Path, tmp_path: Path):
    (folder / "big.safetensors").write_bytes(BIG)
    api.create_repo("acme/m", private=True)
    made = api.upload_folder(repo_id="acme/m", folder_path=folder, commit_message="Four files")
    wanted = contents(folder)
    got = snapshot_download("acme/m", endpoint=api.endpoint, token=TOKEN, cache_dir=tmp_path / "cache")
    assert contents(got) == {**wanted, ".gitattributes": hub.repo("model", "acme/m").files[".gitattributes"]}
    one = hf_hub_download("acme/m", "big.safetensors", endpoint=api.endpoint, token=TOKEN, cache_dir=tmp_path / "one")
    assert Path(one).read_bytes() == BIG
    held = hub.repo("model", "acme/m")
    assert held.visibility == "private"
    assert [commit.title for commit in held.head.history()] == ["Four files", "initial commit"]
    assert held.head.oid == made.oid
    assert held.head.files["big.safetensors"].sha256 == hashlib.sha256(BIG).hexdigest()
    assert held.head.files["config.json"].sha256 is None
    # A signed link needs no token, and the storage gets none.
    assert [one.authorization for one in hub.requests.matching("PUT", "^/lfs/")] == [None, None]


def test_the_same_folder_again_makes_no_commit(hub: Hub, api: HfApi, folder: Path):
    # The client compares the hashes that the Hub names with its own: git's of the text, sha256 of the weights.
    api.create_repo("acme/m")
    first = api.upload_folder(repo_id="acme/m", folder_path=folder)
    assert api.upload_folder(repo_id="acme/m", folder_path=folder).oid == first.oid
    assert len(hub.requests.matching("POST", "/commit/")) == 1


def test_an_existing_repository_is_refused_with_its_address(hub: Hub, api: HfApi):
    hub.add_repo("dataset", "acme/pairs")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo("acme/pairs", repo_type="dataset")
    assert refused.value.response.status_code == 409
    found = api.create_repo("acme/pairs", repo_type="dataset", exist_ok=True)
    assert (found.repo_id, found.repo_type) == ("acme/pairs", "dataset")


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
    # The client remembers what a commit lacks.
    assert [path.parent.name for path in tmp_path.rglob(".no_exist/*/b.txt")] == [repo.head.oid]


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


def test_a_readme_whose_metadata_cannot_be_read_is_refused_before_anything_is_sent(hub: Hub, api: HfApi):
    repo = hub.add_repo("model", "acme/m")
    before = repo.head
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="acme/m")
    assert repo.head is before
    assert hub.requests.matching("POST", "/preupload/") == []


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
