"""A SLURM on this machine for the session: two to four virtual nodes with fake GPUs, accounting and preemption."""

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers import slurm as harness


@pytest.fixture(scope="session")
def cluster():
    """The cluster, started here and stopped at the end."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs root on Debian or Ubuntu; there, `tests/slurm/slurm-up` installs SLURM and starts it")
    with harness.cluster() as state:
        yield state


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """The smoke graph with a longer training, made without SLURM and without faults."""
    folder = harness.project(tmp_path_factory.mktemp("undisturbed") / "project")
    controller = harness.Controller(folder, slurm=False)
    assert controller.finish() == 0, controller.text()[-3000:]
    return folder
