"""The config's documentation says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from model_trainer.services.app import App
from model_trainer.services.configs import reference as config_reference
from model_trainer.services.configs import text as config_text
from model_trainer.services.configs.checks import validate
from model_trainer.services.configs.schema import Config

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
TABLES = {
    "keys": config_reference.key_table,
    "methods": config_reference.method_table,
    "stale": config_reference.stale_table,
    "owned": config_reference.owned_table,
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_documentation_are_the_codes(name: str) -> None:
    found = re.search(f"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1].strip() == TABLES[name](), (
        f"docs/configuration.md: write the table {name!r} anew from config_reference"
    )


def test_the_documentations_example_is_a_valid_config() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert validate(config_text.parse(example[1], "example"))[1] == []


def test_every_key_has_a_description() -> None:
    rows = config_reference.key_table().splitlines()[2:]
    assert len(rows) > 30
    assert not [row for row in rows if row.endswith("|  |")]


def test_the_schema_lists_the_keys_that_are_installed(ready: App) -> None:
    schema: dict[str, Any] = config_reference.config_schema(ready)
    training = schema["properties"]["training"]
    assert training["additionalProperties"] is False
    assert training["properties"]["learning_rate"]["type"] == ["number"]
    assert training["properties"]["eval_strategy"]["enum"] == ["no", "steps", "epoch"]
    assert "output_dir" not in training["properties"]
    adapter = next(branch for branch in schema["properties"]["peft"]["anyOf"] if "properties" in branch)
    assert adapter["properties"]["r"]["description"]
    assert "trl" in schema["$comment"]
    assert json.dumps(schema, allow_nan=False)


def test_the_schema_gives_the_bounds_of_numbers_under_the_standard_s_names() -> None:
    schema = Config.model_json_schema()
    gpus = schema["$defs"]["Resources"]["properties"]["gpus"]
    assert (gpus["minimum"], gpus["maximum"]) == (0, 1)
    [fraction] = [one for one in schema["$defs"]["EvalDataset"]["properties"]["fraction"]["anyOf"] if "type" in one][:1]
    assert (fraction["exclusiveMinimum"], fraction["exclusiveMaximum"]) == (0, 1)
    assert not re.search(r'"(?:ge|gt|le|lt)":', json.dumps(schema))


def test_without_a_training_environment_the_schema_says_what_is_not_listed(
    app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(tmp_path / "none"))
    schema = config_reference.config_schema(app)
    assert "not listed" in str(schema["$comment"])
    assert set(schema) > set(Config.model_json_schema())
