"""What git says of a folder, by cause."""

import os
import subprocess

from lct.files.git import checkout_fault, git_state


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


def test_files_that_are_no_utf8_are_part_of_the_difference(tmp_path):
    for words in (["init", "-q"], ["config", "user.name", "t"], ["config", "user.email", "t@t"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    names, hashes = ("notes", "caf\xe9".encode("latin-1")), set()
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"na\xefve\n")
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "start"], cwd=tmp_path, check=True)
    assert git_state(tmp_path)["dirty"] is False
    for content in (b"na\xefve, fianc\xe9e\r\n", b"na\xefve, fianc\xe8e\r\n"):
        (tmp_path / os.fsdecode(names[1])).write_bytes(content)
        state = git_state(tmp_path)
        assert state["dirty"]
        hashes.add(state["diff_sha256"])
    assert len(hashes) == 2
    for setting in (["color.ui", "always"], ["diff.external", "false"]):  # of a user who likes another difference
        subprocess.run(["git", "config", *setting], cwd=tmp_path, check=True)
        assert git_state(tmp_path)["diff_sha256"] in hashes
