"""What git says of a folder, by cause."""

import subprocess

from lct.files.git import checkout_fault


def test_a_missing_git_a_refusing_git_and_no_repository_are_three_lines(tmp_path, monkeypatch):
    folder = tmp_path / "it's a clone"
    folder.mkdir()
    assert checkout_fault(folder) == (
        f"{folder}: expected a git repository, found none; clone the project instead of copying it"
    )
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    assert checkout_fault(folder) is None
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert str(checkout_fault(folder)).startswith("git: expected the program, found none; install it")
    (folder / ".git/HEAD").write_text("damage")
    assert "git cannot read this repository: fatal: " in str(checkout_fault(folder))


def test_the_remedy_of_a_refusing_git_is_git_s_own_and_works(tmp_path, monkeypatch):
    folder = tmp_path / "it's a clone"
    folder.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    fault = str(checkout_fault(folder))
    assert fault.startswith(f"{folder}: git refuses this folder, because another user is its owner; `git config")
    subprocess.run(fault.split("`")[1], shell=True, check=True)
    assert checkout_fault(folder) is None
