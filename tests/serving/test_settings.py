import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from megavit.api.serve import ServeOptions
from megavit.cli.commands.serve import serve as command
from megavit.errors import ConfigError
from megavit.serving.errors import ApiError
from megavit.serving.request_body import ByteBudget
from megavit.serving.settings import MAX_IMAGES, Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65_536},
        {"max_batch_size": 0},
        {"queue_size": 0},
        {"max_request_mib": 0},
        {"max_megapixels": float("nan")},
        {"read_timeout": 0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"device": "gpu"},
        {"precision": "float64"},
    ],
)
def test_an_invalid_setting_is_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).replace("_", ".")):
        Settings(**wrong)


def test_python_and_the_command_line_have_the_settings_and_their_types() -> None:
    hidden = {"keep_alive", "worker_module"}
    types = {field.name: field.type for field in fields(Settings) if field.name not in hidden}
    assert get_type_hints(ServeOptions) == types
    flags = inspect.signature(command).parameters
    for field in fields(Settings):
        if field.name not in hidden | {"api_key"}:
            assert flags[field.name].default == field.default


def test_a_request_has_no_more_images_than_the_queue() -> None:
    assert Settings(queue_size=10).max_images == 10
    assert Settings(queue_size=10_000).max_images == MAX_IMAGES


def test_a_byte_budget_takes_what_has_been_released() -> None:
    budget = ByteBudget(10)
    budget.acquire(6)
    budget.check(4)
    for exceed in (budget.check, budget.acquire):
        with pytest.raises(ApiError) as refused:
            exceed(5)
        assert (refused.value.status, refused.value.retry_after) == (429, 1)
    budget.release(1)
    budget.acquire(5)
    assert budget.used == 10
