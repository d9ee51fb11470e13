"""The optimization profile of a request, and what happens outside of all."""

from __future__ import annotations

import pytest

from pagdeploy.engines.nvidia.session import load_plan, profile_for
from pagdeploy.errors import UsageError
from pagdeploy.manifest import PlanInfo, Profile


def profile(low, high):
    return {"x": Profile(min=low, opt=high, max=high)}


PROFILES = [profile([1, 8], [1, 16]), profile([1, 16], [4, 32])]


@pytest.mark.parametrize(
    ("shape", "index"), [((1, 8), 0), ((1, 16), 0), ((1, 17), 1), ((4, 32), 1), ((2, 16), 1)]
)
def test_the_first_that_holds_is_taken(shape, index):
    assert profile_for(PROFILES, {"x": shape}) == index


@pytest.mark.parametrize("shape", [(1, 7), (5, 16), (2, 8), (1, 33)])
def test_what_none_holds_is_refused_with_what_they_hold(shape):
    with pytest.raises(UsageError) as problem:
        profile_for(PROFILES, {"x": shape})
    asked = "x".join(map(str, shape))
    assert str(problem.value) == (
        f"The input x {asked} lies outside of what the engine was built for. It takes"
        " x 1x8 to 1x16 or x 1x16 to 4x32; build with other --min-shapes and --max-shapes for more."
    )


def test_fixed_sizes_have_one():
    assert profile_for([], {"x": (3,)}) == 0


def test_code_inside_of_a_plan_is_not_run_unasked():
    plan = PlanInfo(profiles=[], version_compatible=True)
    with pytest.raises(UsageError, match="holds code that would run on this machine"):
        load_plan(None, "tensorrt", b"ftrt", plan)
