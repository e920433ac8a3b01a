"""A SLURM on this machine for the session: two to four virtual nodes with fake GPUs, accounting and preemption."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import harness
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cluster():
    """The cluster, started here and stopped at the end."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs root on Debian or Ubuntu; there, `tests/slurm/slurm-up` installs SLURM and starts it")
    state = Path(tempfile.mkdtemp(prefix="lct-slurm-", dir="/tmp"))  # a short path: it holds sockets
    state.chmod(0o755)
    settings = {"SLURM_UP_NODES": "4", "SLURM_UP_CPUS": "8", "SLURM_UP_MEM_MB": "32000"}
    up = subprocess.run([HERE / "slurm-up", state], env=os.environ | settings, capture_output=True, text=True)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield state
    finally:
        subprocess.run([HERE / "slurm-down", "--purge", state], capture_output=True, check=False)
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """The smoke graph with a longer training, made without SLURM and without faults."""
    folder = harness.project(tmp_path_factory.mktemp("undisturbed") / "project")
    controller = harness.Controller(folder, slurm=False)
    assert controller.finish() == 0, controller.text()[-3000:]
    return folder
