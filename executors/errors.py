"""Every error a caller can see, in one tree; each carries `code`, `message` and `next_step`.

    ModelTrainerError
    ├── ArgumentError     invalid_arguments, unknown_tool, no_workspace
    ├── DataError         file_not_found, bad_encoding, bad_format, empty_dataset, wrong_columns,
    │                     all_masked, dataset_gated, dataset_not_found
    ├── ModelError        model_not_found, model_gated, model_incomplete, model_pickle_only,
    │                     model_needs_remote_code, model_needs_hub_kernel, model_unsupported
    ├── ConfigError       config_not_found, config_exists, invalid_config, unknown_key, stale_key,
    │                     unknown_method, method_unavailable
    ├── PlanError         plan_not_found, nothing_fits
    ├── EnvironmentFault  environment_missing, environment_incomplete, package_missing, unreachable
    ├── RunError          run_not_found, duplicate_run, key_conflict, launch_failed, not_enough,
    │                     run_live, nothing_left, no_checkpoint, no_metrics, no_output
    ├── PublishError      not_logged_in, not_allowed, not_confirmed, declined, destination_taken, unsafe_files
    ├── StateError        foreign_state, state_unwritable, invalid_settings, newer_schema
    ├── LimitError        timed_out, too_large
    └── InternalError     internal

`code` is stable and meant for programs; `message` says what is wrong and what would be right; `next_step` names
the tool or command that comes next, with the caller's own values. The tree stands in the lowest layer so that
every layer above can raise from it. Errors pass through the layers untouched; only `server.boundary` turns
anything else into `internal`.
"""

from __future__ import annotations

from typing import ClassVar


class ModelTrainerError(Exception):
    """Base of all errors that reach a caller.

    `code` must be one of the class's `CODES`; a wrong one is a defect and raises ValueError at once.
    """

    CODES: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, code: str, message: str, *, next_step: str) -> None:
        if code not in self.CODES:
            raise ValueError(f"{code!r} is not a code of {type(self).__name__}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


class ArgumentError(ModelTrainerError):
    """The call itself is wrong."""

    CODES = frozenset({"invalid_arguments", "unknown_tool", "no_workspace"})


class DataError(ModelTrainerError):
    """The data cannot be used as they are."""

    CODES = frozenset(
        {
            "file_not_found",
            "bad_encoding",
            "bad_format",
            "empty_dataset",
            "wrong_columns",
            "all_masked",
            "dataset_gated",
            "dataset_not_found",
        }
    )


class ModelError(ModelTrainerError):
    """The model cannot be used as it is."""

    CODES = frozenset(
        {
            "model_not_found",
            "model_gated",
            "model_incomplete",
            "model_pickle_only",
            "model_needs_remote_code",
            "model_needs_hub_kernel",
            "model_unsupported",
        }
    )


class ConfigError(ModelTrainerError):
    """The config is not one that can be trained."""

    CODES = frozenset(
        {
            "config_not_found",
            "config_exists",
            "invalid_config",
            "unknown_key",
            "stale_key",
            "unknown_method",
            "method_unavailable",
        }
    )


class PlanError(ModelTrainerError):
    """A plan is missing, or none is possible."""

    CODES = frozenset({"plan_not_found", "nothing_fits"})


class EnvironmentFault(ModelTrainerError):
    """Something is not installed, or not reachable."""

    CODES = frozenset({"environment_missing", "environment_incomplete", "package_missing", "unreachable"})


class RunError(ModelTrainerError):
    """A run cannot be found or started."""

    CODES = frozenset(
        {
            "run_not_found",
            "duplicate_run",
            "key_conflict",
            "launch_failed",
            "not_enough",
            "run_live",
            "nothing_left",
            "no_checkpoint",
            "no_metrics",
            "no_output",
        }
    )


class PublishError(ModelTrainerError):
    """Something may not, or can't, be published as it was asked for; nothing was."""

    CODES = frozenset(
        {"not_logged_in", "not_allowed", "not_confirmed", "declined", "destination_taken", "unsafe_files"}
    )


class StateError(ModelTrainerError):
    """The state folder or the settings cannot be trusted."""

    CODES = frozenset({"foreign_state", "state_unwritable", "invalid_settings", "newer_schema"})


class LimitError(ModelTrainerError):
    """The work does not fit its bounds."""

    CODES = frozenset({"timed_out", "too_large"})


class InternalError(ModelTrainerError):
    """Our own defect; the text never leaves the log."""

    CODES = frozenset({"internal"})


def all_codes() -> frozenset[str]:
    """Every stable code of the tree."""
    codes: frozenset[str] = frozenset()
    for family in ModelTrainerError.__subclasses__():
        codes |= family.CODES
    return codes
