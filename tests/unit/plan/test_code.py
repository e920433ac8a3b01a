"""Code is seen: what changes a fingerprint, what does not, and which settings it enters."""

import pytest

from lct.losses.robust import ROBUST
from lct.plan import code
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from tests.helpers import ROOT

MODULE = '''"""Losses of my own."""
from lct.helpers import {name}
import lct.helpers as other

ALPHA = {alpha}
UNRELATED = {unrelated}


def welsch(s, c: float):
    """{docstring}"""
    return {name}(s, c) * ALPHA + other.shift(s)  # {comment}
'''
HELPERS = """
def half(s, c):
    return s / {divisor}
def shift(s):
    return {shift}
def unused():
    return {unused}
"""
PLAIN = {"name": "half", "alpha": 2, "unrelated": 1, "docstring": "x", "comment": "x"}
PLAIN_HELPERS = {"divisor": 2, "shift": 0, "unused": 1}


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """The fingerprint of a loss of one's own, whose module and helpers are written with some parts replaced."""
    monkeypatch.setattr(code, "_ROOT", tmp_path)
    (tmp_path / "lct").mkdir()

    def of(**parts):
        code._module.cache_clear()
        code._source.cache_clear()
        (tmp_path / "lct/helpers.py").write_text(HELPERS.format(**PLAIN_HELPERS | parts))
        place = tmp_path / "lct/mine.py"
        place.write_text(MODULE.format(**PLAIN | parts))
        namespace = {"__name__": "mine"}
        text = place.read_text().replace("from lct.helpers import half", "").replace("import lct.helpers as other", "")
        exec(compile(text, str(place), "exec"), namespace)  # noqa: S102 a text of this test
        return code.fingerprint(namespace["welsch"])

    return of


@pytest.mark.parametrize("change", [{"comment": "y"}, {"docstring": "y"}, {"unrelated": 2}, {"unused": 2}])
def test_comments_and_unrelated_code_change_no_fingerprint(fingerprint, change):
    assert fingerprint(**change) == fingerprint()


@pytest.mark.parametrize("change", [{"alpha": 3}, {"divisor": 3}, {"shift": 1}])
def test_a_constant_and_a_function_of_another_module_are_part_of_it(fingerprint, change):
    before = fingerprint()
    assert fingerprint(**change) != before and fingerprint() == before, "and a revert is seen as one"


def test_the_losses_of_this_version_are_the_pinned_ones_so_that_no_record_is_outdated_by_an_upgrade():
    assert {loss: code.fingerprint(rho) for loss, rho in ROBUST.items()} == code.SHIPPED, (
        'a shipped loss computes something else: raise RECIPES["train"] and pin its fingerprint in lct/plan/code.py'
    )
    assert code.loss_code("l2", "e-latent-lpips", *ROBUST) == {}


def test_an_edited_loss_enters_the_settings_of_the_runs_that_use_it_alone(monkeypatch):
    plan = Plan(ROOT, {"scale": "smoke"})
    before = {run: stage_settings.train(plan, run) for run in plan.runs}
    monkeypatch.setitem(ROBUST, "cauchy", lambda s, c: s)
    assert "code" not in before["digits-lct"]
    after = {run: stage_settings.train(plan, run) for run in plan.runs}
    assert [run for run in plan.runs if before[run] != after[run]] == ["digits-lct"]


def test_a_job_refuses_code_that_was_edited_after_it_was_planned():
    code.check_code({}, "cauchy")
    with pytest.raises(ValueError, match="code of loss cauchy: expected the one that this job was planned with"):
        code.check_code({"cauchy": "0" * 16}, "cauchy")
