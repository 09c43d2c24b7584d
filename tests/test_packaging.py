"""The wheel: everything that is in the tree is in it, and installed without `train` it is a small server that works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from model_trainer.tools import TOOLS

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "tools", "prompts", "services", "executors", "trainer")
#: Files in these folders that are no part of the product.
_NOT_SHIPPED = ("__pycache__",)


@pytest.fixture(scope="module")
def uv() -> Path:
    own = ROOT / ".make" / "uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed; `make` installs it")
    return Path(found)


@pytest.fixture(scope="module")
def real_home() -> str:
    """uv's cache lies under the home folder; without it each run would download everything again."""
    return os.environ["HOME"]


@pytest.fixture(scope="module")
def wheel(uv: Path, real_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree, so that nothing left over from former builds gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*_NOT_SHIPPED))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    command = [uv, "build", "--wheel", "--quiet", "--python", sys.executable, "--out-dir", out, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(real_home))
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(uv: Path, real_home: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's `model-trainer`, without the extra `train`."""
    folder = tmp_path_factory.mktemp("installed")
    environment = _environment(real_home)
    quiet = [uv, "--quiet", "--no-progress"]
    subprocess.run([*quiet, "venv", "--python", sys.executable, folder / "env"], check=True, env=environment)
    python = folder / "env" / "bin" / "python"
    lock = folder / "constraints.txt"
    lock.write_text(_locked_versions(), encoding="utf-8")
    command = [*quiet, "pip", "install", "--python", python, "--compile-bytecode", "--constraints", lock, wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return folder / "env" / "bin" / "model-trainer"


def _environment(home: str) -> dict[str, str]:
    kept = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
    given = {name: os.environ[name] for name in kept if name in os.environ}
    uv = {
        name: value for name, value in os.environ.items() if name.startswith("UV_") and name != "UV_PROJECT_ENVIRONMENT"
    }
    return given | uv | {"HOME": home}


def _locked_versions() -> str:
    """Versions of uv.lock: what a release of a dependency changes tomorrow is not what is tested here."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    names = [package["name"] for package in packages]
    once = [package for package in packages if names.count(package["name"]) == 1 and "registry" in package["source"]]
    return "".join(f"{package['name']}=={package['version']}\n" for package in once)


def test_the_wheel_holds_what_the_tree_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("model_trainer/")}
    tree = {
        f"model_trainer/{path.relative_to(ROOT).as_posix()}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not set(path.parts) & set(_NOT_SHIPPED)
    }
    assert shipped == tree


def test_the_package_is_a_namespace_of_its_own_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
    assert {name for name in top if not re.fullmatch(r"model_trainer-.*\.dist-info", name)} == {"model_trainer"}


def test_every_nested_package_is_declared() -> None:
    declared = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    )
    found = {
        "model_trainer." + ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert declared == found


def test_the_installed_command_tells_its_version(installed: Path) -> None:
    done = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"model-trainer {version('model-trainer')}\n"


def test_without_train_there_is_no_torch_and_the_environment_is_small(installed: Path) -> None:
    python = installed.with_name("python")
    code = "import sys, importlib.util as u; print([name for name in sys.argv[1:] if u.find_spec(name)])"
    names = ["torch", "transformers", "trl", "peft", "datasets", "accelerate"]
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    size = sum(path.lstat().st_size for path in installed.parents[1].rglob("*") if path.is_file())
    # Measured: 241 MB, of which matplotlib and what it needs are 130; with torch it would be 6,000.
    assert size < 300e6


@pytest.mark.anyio
async def test_the_installed_server_starts_over_stdio_and_lists_its_tools(installed: Path, workspace: Path) -> None:
    arguments = ["serve", "--workspace", str(workspace)]
    server = StdioServerParameters(command=str(installed), args=arguments, env=_places())
    with anyio.fail_after(60):
        async with Client(stdio_client(server)) as client:
            listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == [spec.name for spec in TOOLS]


def test_check_environment_says_what_is_missing_and_how_to_get_it(installed: Path) -> None:
    done = subprocess.run([installed, "call", "check_environment"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ready"] is False
    assert report["environments"] == []
    assert report["missing"][0]["command"] == "model-trainer setup"
    assert "model-trainer setup" in report["next_step"]


def test_what_needs_training_packages_names_the_command_that_gets_them(installed: Path) -> None:
    done = subprocess.run([installed, "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "environment_missing" in done.stderr
    assert "model-trainer setup" in done.stderr


def test_the_lock_for_setup_is_in_the_installed_package(installed: Path) -> None:
    code = "from model_trainer.services.environment.setup import find_lock; print(find_lock('default').digest)"
    done = subprocess.run([installed.with_name("python"), "-c", code], capture_output=True, text=True, check=True)
    from model_trainer.services.environment.setup import find_lock

    assert done.stdout.strip() == find_lock("default").digest


def _places() -> dict[str, str]:
    names = ("PATH", "HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME")
    return {name: os.environ[name] for name in names}
