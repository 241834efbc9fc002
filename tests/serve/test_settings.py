import pytest

from megavit.errors import ConfigError
from megavit.serve.errors import ApiError
from megavit.serve.request_body import Room
from megavit.serve.settings import MOST_IMAGES, Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65_536},
        {"batch_size": 0},
        {"queue": 0},
        {"max_body": 0},
        {"max_pixels": 0},
        {"read_timeout": 0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"device": "gpu"},
        {"precision": "float64"},
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).replace("_", ".")):
        Settings(**wrong)


def test_a_request_holds_no_more_images_than_the_queue() -> None:
    assert Settings(queue=10).most_images == 10
    assert Settings(queue=10_000).most_images == MOST_IMAGES


def test_there_is_room_for_what_was_given_back() -> None:
    room = Room(10)
    room.take(6)
    room.check(4)
    for announced in (room.check, room.take):
        with pytest.raises(ApiError) as refused:
            announced(5)
        assert (refused.value.status, refused.value.retry_after) == (429, 1)
    room.give(1)
    room.take(5)
    assert room.taken == 10
