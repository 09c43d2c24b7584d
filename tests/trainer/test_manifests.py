"""Which checkpoints are trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_trainer.trainer import manifests

FILES = (*manifests.NEEDED, "rng_state.pth", "adapter_model.safetensors")


def checkpoint(run: Path, step: int, *, without: str | None = None, finite: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in FILES:
        if name != without:
            text = f'{{"global_step": {step}}}' if name == "trainer_state.json" else f"{name} of {step}"
            (folder / name).write_text(text, encoding="utf-8")
    manifests.write(folder, finite=finite)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_that_never_had_a_needed_file_is_bad(tmp_path: Path, name: str):
    assert manifests.verify(checkpoint(tmp_path, 1)).is_good
    assert not manifests.verify(checkpoint(tmp_path, 2, without=name)).is_good


@pytest.mark.parametrize("name", FILES)
def test_a_needed_file_that_is_gone_or_other_is_named(tmp_path: Path, name: str):
    folder = checkpoint(tmp_path, 1)
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(bytes([data[0], data[1] ^ 1]) + data[2:])
    assert f"{name} has other bytes" in manifests.verify(folder).problems
    path.write_bytes(data[:-1])
    assert f"{name} has another size" in manifests.verify(folder).problems
    path.unlink()
    assert f"{name} is gone" in manifests.verify(folder).problems


def test_the_newest_good_one_is_found_behind_bad_ones_and_foreign_folders(tmp_path: Path):
    good = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, finite=False)
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    found, bad = manifests.last_good(tmp_path)
    assert found is not None
    assert found.folder == good
    assert [(verdict.step, verdict.problems) for verdict in bad] == [
        (11, ("it has no manifest: the save was interrupted",)),
        (10, ("the weights hold NaN or infinity",)),
    ]


def test_a_manifest_of_another_step_is_not_believed(tmp_path: Path):
    folder = checkpoint(tmp_path, 4).rename(tmp_path / "checkpoint-5")
    assert manifests.verify(folder).problems == ("the manifest is of step 4", "its state is of step 4")


def test_a_large_checkpoint_may_be_compared_by_size_alone(tmp_path: Path):
    folder = checkpoint(tmp_path, 1)
    path = folder / "optimizer.pt"
    path.write_bytes(path.read_bytes()[::-1])
    assert not manifests.verify(folder).is_good
    assert manifests.verify(folder, hash_limit=10).is_good
    path.write_bytes(b"")
    assert not manifests.verify(folder, hash_limit=10).is_good


def test_a_run_without_checkpoints_has_none(tmp_path: Path):
    assert manifests.last_good(tmp_path / "nowhere") == (None, [])


def test_a_checkpoint_moved_aside_is_no_longer_looked_at_and_replaces_none_before_it(tmp_path: Path):
    good = checkpoint(tmp_path, 3)
    for number in (1, 2, 3):
        bad = checkpoint(tmp_path, 4, without="optimizer.pt")
        (bad / "which").write_text(str(number), encoding="utf-8")
        assert manifests.quarantine(bad) == tmp_path / "quarantine" / f"checkpoint-4.{number}"
        assert not bad.exists()
    assert manifests.last_good(tmp_path) == (manifests.verify(good), [])
    aside = sorted((tmp_path / "quarantine").iterdir())
    assert [(folder / "which").read_text(encoding="utf-8") for folder in aside] == ["1", "2", "3"]


def test_a_folder_in_which_a_save_had_only_begun_is_moved_aside_as_well(tmp_path: Path):
    begun = tmp_path / "checkpoint-7"
    begun.mkdir()
    (begun / f".{manifests.MANIFEST}.4242.tmp").write_text('{"step": 7, "fin', encoding="utf-8")
    assert not manifests.verify(begun).is_good
    assert [path.name for path in manifests.quarantine(begun).iterdir()] == [f".{manifests.MANIFEST}.4242.tmp"]


#: Manifests that say little or the wrong thing, and what is said of a checkpoint that has one.
MANIFESTS = {
    "empty": ("", "no manifest"),
    "cut": ('{"step": 1, "finite": true, "files": {"optim', "no manifest"),
    "a list": ("[]", "no manifest"),
    "not UTF-8": ("\udcff", "no manifest"),
    "no files": ('{"step": 1, "finite": true}', "isn't one of ours"),
    "no object of files": ('{"step": 1, "finite": true, "files": []}', "isn't one of ours"),
    "files of no size": ('{"step": 1, "finite": true, "files": {"optimizer.pt": {}}}', "isn't one of ours"),
    "files outside": (
        '{"step": 1, "finite": true, "files": {"../../secret": {"size": 1, "sha256": "x"}}}',
        "optimizer.pt is missing",
    ),
}


@pytest.mark.parametrize(("text", "says"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_none_makes_a_checkpoint_bad_and_nothing_worse(tmp_path: Path, text: str, says: str):
    good, folder = checkpoint(tmp_path, 0), checkpoint(tmp_path, 1)
    (folder / manifests.MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    found, (bad,) = manifests.last_good(tmp_path)
    assert found is not None
    assert found.folder == good
    assert any(says in problem for problem in bad.problems)


def test_a_state_that_is_no_record_makes_a_checkpoint_bad_and_nothing_worse(tmp_path: Path):
    folder = checkpoint(tmp_path, 1)
    (folder / "trainer_state.json").write_text("[]", encoding="utf-8")
    assert "trainer_state.json has another size" in manifests.verify(folder).problems
    # The same bytes as the manifest says, and still none.
    manifests.write(folder, finite=True)
    assert manifests.verify(folder).problems == ("its state can't be read",)
