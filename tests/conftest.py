"""Shared by all tests: one thread and deterministic algorithms, as in the jobs; a clean environment."""

import os
import signal

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
for _variable in ("SNAKEMAKE_PROFILE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of the user, and of `make test` itself
    os.environ.pop(_variable, None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts with &, and its children

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.helpers import do_without_fsync  # noqa: E402
from tests.helpers.warm import warm  # noqa: E402

do_without_fsync()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


@pytest.fixture(scope="session")
def warm_variables():
    """Variables under which `python -m snakemake`, `dvc` and `lct...` are forked from a process that has loaded their
    libraries."""
    with warm(dict(os.environ)) as environment:
        yield {name: environment[name] for name in ("LCT_WARM", "PYTHONPATH")}


@pytest.fixture
def warm_programs(warm_variables, monkeypatch):
    """The same for a test; one that kills or limits these programs does without: `monkeypatch.delenv("LCT_WARM")`."""
    for name, value in warm_variables.items():
        monkeypatch.setenv(name, value)


def pytest_collection_modifyitems(items):
    """Files with whole runs first, then long ones before short ones, so that two workers end at about the same time."""
    items.sort(key=lambda item: ("workflow" not in item.path.parts, -item.path.stat().st_size, item.path))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Under `make test-all`, which sets LCT_NO_SKIP, a skipped test is a failure: what cannot run was not tested."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("LCT_NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
