"""How many at once: the largest that fits, halved where it did not."""

from __future__ import annotations

import pytest

from dspo_train.models.batch_size import in_batches, largest


@pytest.mark.parametrize(
    ("limit", "most", "expected"), [(0, 8, 1), (1, 8, 1), (5, 8, 5), (8, 8, 8), (99, 8, 8), (3, 1, 1), (3, 0, 1)]
)
def test_the_largest_that_fits(limit, most, expected):
    assert largest(lambda count: count <= limit, most) == expected


def test_few_questions_are_asked():
    asked = []
    largest(lambda count: asked.append(count) or count <= 700, 1024)
    assert len(asked) <= 10
    assert max(asked) <= 1024


class Device:
    """Has room for `room` items at once."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []
        self.relieved = 0

    def __call__(self, items):
        self.tried.append(len(items))
        if len(items) > self.room:
            raise MemoryError
        return list(items)

    def relieve(self) -> None:
        self.relieved += 1


def test_a_batch_that_is_too_large_is_halved_and_nothing_is_lost():
    """7 at once fail, 4 fail, 2 work: 2 + 2 + 2 + 1."""
    device = Device(2)
    results, size = in_batches(range(7), 7, device, (MemoryError,), device.relieve)
    assert device.tried == [7, 4, 2, 2, 2, 1]
    assert [item for batch in results for item in batch] == list(range(7))
    assert (size, device.relieved) == (2, 2)


def test_a_size_that_works_is_kept():
    device = Device(8)
    assert in_batches(range(7), 3, device, (MemoryError,)) == ([[0, 1, 2], [3, 4, 5], [6]], 3)


def test_one_that_does_not_fit_alone_is_told():
    device = Device(0)
    with pytest.raises(MemoryError):
        in_batches(range(4), 4, device, (MemoryError,), device.relieve)
    assert device.tried == [4, 2, 1]


def test_other_errors_pass_at_once():
    def work(items):
        raise KeyError(len(items))

    with pytest.raises(KeyError, match="4"):
        in_batches(range(4), 4, work, (MemoryError,))
