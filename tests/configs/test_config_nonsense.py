"""Configs edited into nonsense: each is refused with an error of ours, or works; none is anything else's exception."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from config_samples import MINIMAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_trainer.executors.errors import ModelTrainerError
from model_trainer.services.configs import emit as config_emit
from model_trainer.services.configs import loading as configs
from model_trainer.services.configs import text as config_text
from model_trainer.services.configs.checks import validate
from model_trainer.services.configs.schema import Config

BASE: dict[str, Any] = config_text.parse(MINIMAL, "c").data

NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.lists(st.integers() | st.text(max_size=4), max_size=3),
    st.dictionaries(
        st.sampled_from(("type", "r", "path", "fraction", "name", "x", "")), st.integers() | st.text(), max_size=3
    ),
)
KEYS = (
    *Config.model_fields,
    *("training.packing", "training.eval_strategy", "training.save_steps", "training.eval_steps", "training.max_steps"),
    *("training.load_best_model_at_end", "training.save_strategy", "training.fp16", "training.optim"),
    *("training.completion_only_loss", "training.lr_scheduler_type", "training.learning_rate", "peft.type", "peft.r"),
    *("peft.target_modules", "model.name", "model.dtype", "model.chat_template", "datasets.0", "datasets.0.path"),
    *("datasets.0.columns", "datasets.0.turns", "eval_dataset.path", "guards.stall_minutes", "evaluation.metrics"),
)


@given(st.lists(st.tuples(st.sampled_from(KEYS), NONSENSE | st.just(...)), min_size=1, max_size=4))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_config_edited_into_nonsense_is_refused_or_works(edits: list[tuple[str, object]]) -> None:
    data = copy.deepcopy(BASE)
    for path, value in edits:
        *parents, last = path.split(".")
        place: Any = data
        for part in parents:
            if isinstance(place, dict):
                place = place.get(part)
            elif isinstance(place, list):
                place = place[int(part)] if part.isdigit() and int(part) < len(place) else None
        if isinstance(place, dict):
            if value is ...:
                place.pop(last, None)
            else:
                place[last] = value
        elif isinstance(place, list) and place and last.isdigit() and value is not ...:
            place[0] = value
    try:
        document = config_text.parse(config_emit.dump(data), "c")
        config, _ = validate(document)
        configs.digest(configs.absolute_config(config, Path("/w")))
        configs.resolve_config(config, Path("/w"))
    except ModelTrainerError:
        return


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_file_with_letters_changed_is_refused_or_works(data: st.DataObject) -> None:
    text = list(MINIMAL)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from([*"\n\t :,{}[]#&*!|>'\"%@`-?.0a~\x00\ufeff", "é", ""]))
    try:
        validate(config_text.parse("".join(text), "c"))
    except ModelTrainerError:
        return
