"""What each round of the loop draws."""

from __future__ import annotations

from dspo_train.sheets.rounds import prompts_of_round, seeds_of_round


def test_seeds_go_on_where_the_round_before_ended() -> None:
    assert seeds_of_round(7, 3, 1) == [7, 8, 9]
    assert seeds_of_round(7, 3, 2) == [10, 11, 12]
    assert seeds_of_round(2**64 - 2, 3, 1) == [2**64 - 2, 2**64 - 1, 0]


def test_prompts_take_turns() -> None:
    prompts = ["a", "b", "c", "d", "e"]
    assert [prompts_of_round(prompts, 2, round) for round in (1, 2, 3)] == [["a", "b"], ["c", "d"], ["e", "a"]]
    assert prompts_of_round(prompts, 0, 3) == prompts_of_round(prompts, 9, 2) == prompts
