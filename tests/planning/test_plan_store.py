"""Plans on disk."""

from __future__ import annotations

import json

import pytest
from planning_toys import ask, known, machine

from model_trainer.executors.errors import PlanError, StateError
from model_trainer.services.app import App
from model_trainer.services.planning.recommend import recommend
from model_trainer.services.planning.results import TrainingPlan
from model_trainer.services.planning.store import load_plan, mint_plan_id, save_plan


def a_plan() -> TrainingPlan:
    first, *others = recommend(ask(known("Qwen3-0.6B"), machine("NVIDIA L4", 22.0)))
    return TrainingPlan(
        id=mint_plan_id(),
        created="2026-11-23T10:00:00Z",
        data="d",
        model="m",
        hardware="h",
        recommended=first,
        alternatives=others,
    )


def test_a_plan_comes_back_as_it_was(app: App) -> None:
    plan = a_plan()
    save_plan(app.home, plan)
    assert load_plan(app.home, plan.id) == plan
    assert plan.config == plan.recommended.config
    assert len({option.label for option in (plan.recommended, *plan.alternatives)}) == 1 + len(plan.alternatives)


def test_ids_carry_the_day_and_differ() -> None:
    ids = {mint_plan_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(one.startswith("plan-20") and len(one) == 20 for one in ids)


@pytest.mark.parametrize("plan_id", ["plan-20261123-zzzzzz", "../../etc/passwd", "", "plan-20261123-../x", "x" * 500])
def test_an_unknown_or_impossible_id_is_not_found(app: App, plan_id: str) -> None:
    with pytest.raises(PlanError) as caught:
        load_plan(app.home, plan_id)
    assert caught.value.code == "plan_not_found"
    assert "plan_training" in caught.value.next_step


def test_a_plan_of_a_newer_version_and_a_broken_one_are_said(app: App) -> None:
    plan = a_plan()
    path = save_plan(app.home, plan)
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "version": 2}), encoding="utf-8")
    with pytest.raises(StateError) as newer:
        load_plan(app.home, plan.id)
    assert newer.value.code == "newer_schema"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(PlanError):
        load_plan(app.home, plan.id)
    path.write_text('{"version": 1}', encoding="utf-8")
    with pytest.raises(PlanError):
        load_plan(app.home, plan.id)
