"""What the doctor says of machines that lack one thing or another."""

import sys
from pathlib import Path

import pytest

from pointins_plugin import diagnosis
from pointins_plugin.diagnosis import (
    BAD,
    NONE,
    OK,
    available_memory,
    count_scenes,
    examine,
    git_commit,
    spconv_package,
    spconv_problem,
)

COMMIT = "d74c646b6e05f9dbe05b41d2a5db4d0e9a2f8d11"


@pytest.fixture
def versions(monkeypatch):
    """Return a function that sets what is installed."""

    def install(**packages):
        found = {name.replace("_", "-"): value for name, value in packages.items()}
        monkeypatch.setattr(diagnosis, "version", found.get)

    return install


def look(name, folder="."):
    findings = [finding for finding in examine(folder) if finding.name == name]
    assert len(findings) == 1, findings
    return findings[0]


def cuda(monkeypatch, version="12.4"):
    monkeypatch.setattr(diagnosis, "_cuda", lambda: tuple(map(int, version.split("."))))


def test_one_of_each_and_all_on_one_screen(tmp_path):
    findings = examine(tmp_path)
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    wanted = {"pointins", "Python", "torch", "GPU", "host", "Pointcept", "spconv"}
    wanted |= {"flash-attn", "for Pointcept", "packages", "extras", "data"}
    wanted |= {"memory", "disk", "threads"}
    silent = {"flash-attn", "data"}  # nothing to do about it
    assert wanted <= set(names)
    for finding in findings:
        assert finding.state in (OK, BAD, NONE)
        assert finding.found
        assert "\n" not in finding.found + finding.advice
        assert finding.advice or finding.state == OK or finding.name in silent


def test_no_look_ends_the_examination(monkeypatch):
    def ill():
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(diagnosis, "_memory", ill)
    (found,) = [f for f in examine() if "could not be examined" in f.found]
    assert found.state == BAD
    assert "first line" in found.found
    assert "second" not in found.found


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # its import fails
    findings = {finding.name: finding for finding in examine()}
    assert findings["torch"].state == BAD
    assert findings["host"].state == BAD
    assert findings["packages"].state == OK
    assert "GPU" not in findings
    assert not any("could not be examined" in f.found for f in findings.values())


def test_pointcept_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("POINTCEPT_ROOT", str(tmp_path))
    found = look("Pointcept")
    assert found.state == BAD
    assert f"POINTCEPT_ROOT={tmp_path} holds no pointcept folder" in found.found


def checkout(root, commit):
    (root / "pointcept").mkdir()
    (root / "pointcept" / "__init__.py").touch()
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text(commit + "\n")


def test_pointcept_and_its_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("pointins_plugin.host.locate.REQUIRED", ())
    monkeypatch.setenv("POINTCEPT_ROOT", str(tmp_path))
    checkout(tmp_path, COMMIT)
    found = look("Pointcept")
    assert (found.state, found.advice) == (OK, "")
    assert found.found == f"{tmp_path} at d74c646"
    (tmp_path / ".git" / "HEAD").write_text("f" * 40)
    found = look("Pointcept")
    assert found.state == BAD
    assert "tested with d74c646" in found.advice
    monkeypatch.setattr("pointins_plugin.host.locate.REQUIRED", ("no_such_module",))
    found = look("Pointcept")
    assert found.state == BAD
    assert "no_such_module cannot be imported" in found.advice
    # the extra would put a CUDA build of torch in the place of a CPU's
    assert "docs/pointcept.md" in found.advice
    assert "pip install" not in found.advice
    cuda(monkeypatch)
    assert 'pip install "pointins[pointcept]"' in look("Pointcept").advice


def test_commit_of_a_checkout(tmp_path):
    assert git_commit(tmp_path) is None
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{COMMIT} refs/heads/main\n")
    assert git_commit(tmp_path) == COMMIT
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert git_commit(tmp_path) == "a" * 40
    # a worktree: .git is a file, its branches lie in the first checkout
    tree, home = tmp_path / "tree", git / "worktrees" / "tree"
    tree.mkdir()
    home.mkdir(parents=True)
    (tree / ".git").write_text(f"gitdir: {home}\n")
    (home / "HEAD").write_text("ref: refs/heads/main\n")
    (home / "commondir").write_text("../..\n")
    assert git_commit(tree) == "a" * 40


@pytest.mark.parametrize(
    ("cuda_version", "python", "package"),
    [
        (None, (3, 11), "spconv"),
        ((11, 8), (3, 10), "spconv-cu118"),
        ((12, 0), (3, 11), "spconv-cu120"),
        ((12, 0), (3, 12), "spconv-triton"),  # cu120 has no such wheel
        ((12, 4), (3, 12), "spconv-cu124"),
        ((12, 8), (3, 12), "spconv-cu126"),
        ((13, 0), (3, 12), "spconv-triton"),
        ((11, 1), (3, 10), "spconv-triton"),
    ],
)
def test_package_of_spconv(cuda_version, python, package):
    assert spconv_package(cuda_version, python) == package


def test_known_bad_builds_of_spconv(versions):
    assert "crash" in spconv_problem("spconv-cu120", "2.3.6", None)
    assert "race" in spconv_problem("spconv", "2.3.8", None)
    assert "cumm below 0.8" in spconv_problem("spconv-cu126", "2.3.8", "0.8.2")
    assert spconv_problem("spconv-cu126", "2.3.8", "0.7.11") == ""
    assert spconv_problem("spconv-triton", "1.0", "0.8.2") == ""
    versions(spconv_cu126="2.3.8", cumm_cu126="0.7.11", torch="2.4.0")
    assert (look("spconv").state, look("spconv").found) == (OK, "spconv-cu126 2.3.8")
    versions(spconv_cu120="2.3.6")
    assert (look("spconv").state, "crash" in look("spconv").advice) == (BAD, True)
    versions(spconv_cu126="2.3.8", spconv_cu124="2.3.8")
    both = [finding for finding in examine() if finding.name == "spconv"]
    assert all("overwrite each other" in finding.advice for finding in both)
    versions()
    assert "pip install spconv" in look("spconv").advice


def test_what_a_gpu_needs(monkeypatch, versions):
    versions()
    assert "of no use on CPU" in look("flash-attn").found
    cuda(monkeypatch)
    assert 'pip install "pointins[flash]"' in look("flash-attn").advice
    assert "pip install spconv-cu124" in look("spconv").advice
    assert "pointops" in look("for Pointcept").advice
    versions(flash_attn="2.8.0")
    assert look("flash-attn").state == OK


def test_packages(versions):
    versions(numpy="2.0.0", scipy="1.10.0", tqdm="4.60.0", torch="2.4.0")
    assert look("packages").state == BAD
    assert look("packages").advice == "pip install addict"
    assert 'pip install "pointins[demo,export,laz]"' in look("extras").advice
    full = dict(matplotlib="3.6", scikit_learn="1.3", safetensors="0.4", laspy="2.4")
    versions(**full)
    assert ".laz clouds (lazrs)" in look("extras").advice
    versions(**full, lazrs="0.5")
    assert look("extras").state == OK
    versions(torch="2.4.0+cpu", torchvision="0.19.0")
    assert "breaks at import" in look("torchvision").advice
    versions(torch_geometric="2.8.1")
    assert (
        "pip install --no-deps torch-geometric==2.7.0" in look("torch-geometric").advice
    )


def test_data(monkeypatch, tmp_path):
    monkeypatch.setenv("POINTINS_DATA", str(tmp_path / "none"))
    assert look("data").state == BAD
    for scene in ("mosd/train/a", "mosd/train/b", "mosd/val/c", "semantic_kitti/x"):
        (tmp_path / scene).mkdir(parents=True)
    (tmp_path / "semantic_kitti/dataset/sequences/00").mkdir(parents=True)
    (tmp_path / "nuscenes/raw").mkdir(parents=True)
    monkeypatch.setenv("POINTINS_DATA", str(tmp_path))
    found = look("data")
    assert found.state == OK
    assert (
        "semantic_kitti (1 sequences), nuscenes (raw), mosd (3 scenes)" in found.found
    )
    assert count_scenes(tmp_path / "mosd") == "3 scenes"


def test_memory_disk_and_threads(monkeypatch, tmp_path):
    free, total = available_memory()
    assert 0 < free <= total
    monkeypatch.setattr(diagnosis, "available_memory", lambda: (2**30, 2**33))
    assert look("memory").state == BAD
    assert "1.0 of 8.0 GiB free" in look("memory").found
    assert str(tmp_path) in look("disk", tmp_path / "not" / "yet").found
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert look("threads").state == BAD


def test_nothing_is_imported_that_may_be_broken(tmp_path, monkeypatch):
    # a look-up finds a package whose import would end the process
    folder = Path(tmp_path) / "pointops"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    cuda(monkeypatch)
    assert "pointops" in look("for Pointcept").found
