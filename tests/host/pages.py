"""Requests as our page sends them, and as it never would; sets to send them about."""

from __future__ import annotations

import http.client
import io
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from comfy_server import ComfyServer
from PIL import Image

from dspo_train.preferences import NewImage, PreferenceStore

Place = dict[str, str]


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Page:
    """One tab."""

    def __init__(self, server: ComfyServer, client: str = "tab") -> None:
        self.port, self.client = server.port, client

    def headers(self, **changes: str | None) -> dict[str, str]:
        """Those of our page; `x_dspo=None` leaves one out."""
        values: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Origin": f"http://127.0.0.1:{self.port}",
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/json",
            "X-DSPO": "1",
        }
        values |= {name.title().replace("_", "-").replace("Dspo", "DSPO"): value for name, value in changes.items()}
        return {name: value for name, value in values.items() if value is not None}

    def get(self, path: str, **fields: Any) -> Answer:
        query = urlencode(fields, errors="surrogatepass")
        return self.send("GET", f"/api/dspo/{path}?{query}", {"Host": f"127.0.0.1:{self.port}"})

    def post(self, path: str, **fields: Any) -> Answer:
        return self.send("POST", f"/api/dspo/{path}", self.headers(), json.dumps(fields).encode())

    def send(
        self, method: str, path: str, headers: dict[str, str] | list[tuple[str, str]], body: bytes = b""
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items() if isinstance(headers, dict) else headers:
                connection.putheader(name, value)
            if method != "GET":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found.get("content-type", ""), found, answer.read())
        finally:
            connection.close()


def ask(page: Page, place: Place, count: int = 1, **fields: Any) -> list[dict[str, str]]:
    return page.get("next", **place, count=count, **fields).json["questions"]


def click(page: Page, place: Place, question: dict[str, str], **changes: Any) -> Answer:
    """Vote for the left picture, unless changed."""
    values = {"pair": question["pair"], "outcome": "win", "winner": question["left"], "id": uuid.uuid4().hex}
    return page.post("vote", **{**place, **values, "client": page.client, "seconds": 1.5, **changes})


def noise(seed: int, side: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def put_set(
    folder: Path, groups: int = 3, pictures: int = 2, prompt: str = "red dog {}", **arms: Any
) -> PreferenceStore:
    """A collected set of noise pictures; with `arms=True` those of a blind test."""
    store = PreferenceStore(folder)
    for number in range(groups):
        shots = [
            NewImage(noise(1000 * number + n), n, ("base", "lora")[n % 2] if arms else None) for n in range(pictures)
        ]
        store.add_group(
            prompt.format(number), shots, settings={"names": {"lora": arms.get("lora", "my <LoRA>")}} if arms else None
        )
    return store


def put_run(base: Path, name: str, steps: int = 100, done: int = 100, **values: float) -> Path:
    """A run folder as the trainer leaves it, without its weights."""
    folder = base / "output" / "dspo" / "runs" / name
    (folder / "previews").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {"steps": steps, "objective": "dspo"}}), encoding="utf-8")
    report = {"loss": 1.0, "margin": 0.1, "accuracy": 0.6, "winner_change": -0.1, "loser_change": 0.1, "drift": 0.1}
    lines = [
        json.dumps({"step": step, **report, "pairs_per_second": 2.0, "seconds": 0.5, **values})
        for step in range(1, done + 1)
    ]
    (folder / "reports.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    (folder / "previews" / "step-000050.png").write_bytes(noise(7))
    if done >= steps:
        (folder / f"{name}.safetensors").write_bytes(b"x")
    return folder


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time of writing, but for what ComfyUI itself writes all the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            path.is_file()
            and not name.startswith(("server.log", "user/", "custom_nodes/"))
            and "__pycache__" not in name
        ):
            status = path.stat()
            found[name] = (status.st_size, status.st_mtime_ns)
    return found
