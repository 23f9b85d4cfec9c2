"""Votes that the server has acknowledged outlive its death, and count once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer
from pages import Page, Place, put_set

from dspo_train.preferences import PreferenceStore, Question

pytestmark = pytest.mark.comfy

PLACE: Place = {"place": "sets", "set": "many"}
GROUPS, PICTURES = 110, 8  # every picture against every other: 110 x 28 = 3080 pairs
BURST, SHARED = 500, 50  # votes sent by two threads; each thread also gives the shared ones
KILLED_AFTER = (40, 150, 300)  # acknowledged votes


@dataclass
class Burst:
    """What two threads sent, and what they were told."""

    page: Callable[[str], Page]
    sent: list[dict[str, Any]] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def votes(self, questions: list[Question], client: str) -> list[dict[str, Any]]:
        """Left, right and tie in turn."""
        outcomes = [("win", "left"), ("win", "right"), ("tie", None)]
        found = []
        for number, question in enumerate(questions):
            outcome, side = outcomes[number % 3]
            winner = getattr(question, side) if side else None
            answer = {"pair": question.pair, "outcome": outcome, "winner": winner, "seconds": 0.5}
            found.append({**PLACE, **answer, "id": f"{client}-{number}", "client": client})
        return found

    def send(self, votes: list[dict[str, Any]], client: str) -> None:
        """One after the other, until the server is gone."""
        page = self.page(client)
        for vote in votes:
            with self.lock:
                self.sent.append(vote)
            try:
                answer = page.post("vote", **vote)
            except (OSError, HTTPException):
                return
            assert answer.status == 200, answer.body
            if answer.json["status"] == "recorded":
                with self.lock:
                    self.recorded.append(vote["id"])


def burst(server: ComfyServer, store: PreferenceStore, turn: int, killed_after: int) -> Burst:
    """Half the votes by each of two threads at once; the server is killed once so many are acknowledged."""
    made = Burst(lambda client: Page(server, client))
    questions = store.next(BURST)
    own = BURST // 2 - SHARED
    shared = questions[-SHARED:]
    threads = []
    for n in range(2):
        mixed = [*questions[n * own : (n + 1) * own]]
        for place, question in enumerate(shared):
            mixed.insert(place * 5, question)
        client = f"tab-{turn}-{n}"
        threads.append(threading.Thread(target=made.send, args=(made.votes(mixed, client), client)))
    for thread in threads:
        thread.start()
    end = time.monotonic() + 120
    while len(made.recorded) < killed_after and time.monotonic() < end and any(each.is_alive() for each in threads):
        time.sleep(0.001)
    server.kill()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive()
    return made


def logged(folder: Path) -> list[dict[str, Any]]:
    """Every line of the log, each of which must be whole."""
    text = (folder / "preferences.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def counting(store: PreferenceStore) -> list[str]:
    return [each.pair for each in store.history(limit=10_000) if each.status == "counts"]


def test_votes_outlive_the_server(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    folder = server.base / "input" / "many"
    put_set(folder, GROUPS, PICTURES)
    assert PreferenceStore(folder).progress().open == 3080
    acknowledged: list[str] = []
    for turn, killed_after in enumerate(KILLED_AFTER):
        made = burst(server, PreferenceStore(folder), turn, killed_after)
        assert killed_after <= len(made.recorded) < BURST - SHARED, "it was killed in the middle"
        acknowledged += made.recorded
        server.start()
        page = Page(server)
        before = page.get("next", **PLACE, count=1).json["progress"]["answered"]
        assert before >= len(acknowledged)
        # A page sends again what it was told nothing about, whether or not the first try had arrived
        for vote in [vote for vote in made.sent if vote["id"] not in made.recorded][-2:]:
            status = page.post("vote", **vote).json["status"]
            assert status in ("recorded", "already")
            acknowledged += [vote["id"]] if status == "recorded" else []
        (question,) = page.get("next", **PLACE, count=1).json["questions"]
        answer = page.post("vote", **PLACE, pair=question["pair"], outcome="tie", id=f"after-{turn}", client="tab")
        assert answer.json["status"] == "recorded"
        acknowledged.append(f"after-{turn}")
    store = PreferenceStore(folder)
    lines = logged(folder)
    votes = [line for line in lines if line["kind"] == "vote"]
    assert {vote["id"] for vote in votes} >= set(acknowledged)
    assert len({vote["id"] for vote in votes}) == len(votes)
    assert store.broken() == []
    pairs = counting(store)
    assert len(set(pairs)) == len(pairs) == store.progress().answered == len(votes)
    assert len(pairs) >= sum(KILLED_AFTER)
