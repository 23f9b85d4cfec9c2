"""A real ComfyUI server in a process and a base folder of its own, driven over HTTP.

COMFYUI_PATH        a ComfyUI checkout
COMFYUI_PYTHON      the Python that has its requirements; this one, if not given
COMFYUI_PYTHONPATH  a folder of packages to prefer, for a core that needs newer ones
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy_events
import psutil

PACK = Path(__file__).resolve().parents[2]
PACK_NAME = "dspo-studio"
TINY_PACK = Path(__file__).resolve().parent / "tiny_pack"  # a loader of tiny models
BOOT = Path(__file__).with_name("boot.py")
FOLDERS = ("custom_nodes", "input", "output", "temp", "user", "models/checkpoints", "models/loras")
NEEDED = ("torch", "torchvision", "torchsde", "aiohttp", "alembic", "av", "einops", "transformers", "safetensors")
BOOT_SECONDS = 180
SETTINGS = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names

Json = dict[str, Any]


@dataclass(frozen=True)
class Core:
    """A ComfyUI checkout and what runs it."""

    path: Path
    python: str = sys.executable
    extra: str | None = None

    @staticmethod
    def from_env() -> Core | None:
        """What the environment names; None without COMFYUI_PATH."""
        path = os.environ.get("COMFYUI_PATH")
        if not path:
            return None
        python = os.environ.get("COMFYUI_PYTHON") or sys.executable
        return Core(Path(path).resolve(), python, os.environ.get("COMFYUI_PYTHONPATH") or None)

    def env(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        extra = {"PYTHONPATH": self.extra} if self.extra else {}
        return {**env, **extra, **SETTINGS}

    def trains_flow(self) -> bool:
        """Can it switch to differentiable kernels, as the pack asks it?"""
        return "in_training" in (self.path / "comfy" / "model_management.py").read_text(encoding="utf-8")

    def trouble(self) -> str | None:
        """Why this core cannot run; None if nothing speaks against it."""
        if not (self.path / "main.py").is_file():
            return f"COMFYUI_PATH={self.path} is no ComfyUI checkout (no main.py)"
        look = f"import importlib.util as u; print(*[n for n in {NEEDED!r} if u.find_spec(n) is None])"
        try:
            answer = subprocess.run(
                [self.python, "-c", look], env=self.env(), capture_output=True, text=True, timeout=60
            )
        except OSError as error:
            return f"COMFYUI_PYTHON={self.python} does not start ({error})"
        missing = answer.stdout.strip() or answer.stderr.strip()[-200:]
        return f"{self.python} lacks {missing}, which ComfyUI needs" if missing else None


class ComfyServer:
    """One server process; `running` starts and ends it."""

    def __init__(self, core: Core, base: Path, flags: tuple[str, ...] = ()) -> None:
        self.core, self.base, self.flags = core, base, flags
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            RuntimeError: it ended or stayed silent; holds the end of the log.
        """
        arguments = ["--cpu", "--port", str(self.port), "--base-directory", str(self.base)]
        arguments += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", *self.flags]
        with (self.base / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.core.python, str(BOOT), *arguments],
                cwd=self.core.path,
                env=self.core.env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + BOOT_SECONDS
        while not self.answers():
            if time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"ComfyUI did not answer within {BOOT_SECONDS} s; its log ends:\n{self.tail()}")
            self._require_alive()
            time.sleep(0.2)

    def stop(self) -> None:
        """Ask the process to end and wait; kill it when it does not."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """End the process without giving it a chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
        self.process = None

    def restart(self) -> None:
        """End the process, if it runs, and start another on the same port and base folder."""
        self.stop()
        self.start()

    def answers(self) -> bool:
        try:
            self.get("/system_stats")
        except (OSError, ValueError):
            return False
        return True

    def get(self, path: str) -> Any:
        return json.loads(self.fetch(path))

    def fetch(self, path: str, timeout: float = 30) -> bytes:
        with DIRECT.open(self.url + path, timeout=timeout) as answer:
            return answer.read()

    def post(self, path: str, value: Any) -> bytes:
        body = json.dumps(value).encode()
        return self._send(path, body, "application/json")

    def queue(self, prompt: Json, client_id: str | None = None, **extra: Any) -> str:
        """Queue a workflow in API format; its prompt id.

        Raises:
            AssertionError: the server refused it; holds its answer, with the errors of each node.
        """
        value = {"prompt": prompt, **({"client_id": client_id} if client_id else {}), **extra}
        try:
            return json.loads(self.post("/prompt", value))["prompt_id"]
        except urllib.error.HTTPError as error:
            answer = error.read().decode("utf-8", "replace")
            raise AssertionError(f"the server refused the workflow ({error.code}): {answer}") from None

    def wait(self, prompt_id: str, timeout: float = 120) -> Json:
        """The history entry of a prompt once it has ended, well or not."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self._require_alive()
            found = self.get(f"/history/{prompt_id}")
            if prompt_id in found:
                return found[prompt_id]
            time.sleep(0.1)
        raise AssertionError(f"prompt {prompt_id} did not end within {timeout} s; the log ends:\n{self.tail()}")

    def run(self, prompt: Json, timeout: float = 120, client_id: str | None = None) -> Json:
        """Queue a workflow, wait, and return its outputs by node id; an error in it is an AssertionError."""
        entry = self.wait(self.queue(prompt, client_id), timeout)
        status = entry["status"]
        if status["status_str"] != "success":
            raise AssertionError(f"the workflow ended as {status}")
        return entry["outputs"]

    def listen(
        self, client_id: str | None = None, *, preview_metadata: bool = True
    ) -> AbstractContextManager[comfy_events.Events]:
        """Collect the events of a client; queue with `client_id=events.client_id` to be sent those of a prompt."""
        return comfy_events.listen(self.port, client_id, preview_metadata=preview_metadata)

    def interrupt(self) -> None:
        """Cancel what runs now."""
        self.post("/interrupt", {})

    def clear_queue(self) -> None:
        """Drop what waits; what runs goes on."""
        self.post("/queue", {"clear": True})

    def free(self) -> None:
        """Have models and cached results dropped."""
        self.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(1)  # its worker does it unseen, and a graph queued sooner would be answered from the cache

    def upload_image(self, content: bytes, name: str, subfolder: str = "") -> Json:
        """Put an encoded picture in the input folder; the server's answer: name, subfolder, type."""
        mark = uuid.uuid4().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in (("subfolder", subfolder), ("overwrite", "true"))
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        parts += [head.encode(), b"Content-Type: image/png\r\n\r\n", content, f"\r\n--{mark}--\r\n".encode()]
        return json.loads(self._send("/upload/image", b"".join(parts), f"multipart/form-data; boundary={mark}"))

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        query = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        return self.fetch(f"/view?{query}")

    def log(self) -> str:
        """Everything that the process, and those before it, wrote."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def rss(self) -> int:
        """Resident memory of the server process now, in bytes.

        glibc keeps freed blocks of up to 32 MiB, so this hardly falls when models are dropped. To measure that, set
        MALLOC_MMAP_THRESHOLD_=1000000 in the environment before the start; sampling then takes 40% more CPU time.
        """
        if self.process is None:
            raise RuntimeError("the server does not run; start it first")
        return psutil.Process(self.process.pid).memory_info().rss

    def _send(self, path: str, body: bytes, kind: str) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind})
        with DIRECT.open(request, timeout=60) as answer:
            return answer.read()

    def _require_alive(self) -> None:
        code = None if self.process is None else self.process.poll()
        if self.process is None or code is not None:
            raise RuntimeError(f"ComfyUI does not run (exit status {code}); its log ends:\n{self.tail()}")


@contextmanager
def running(core: Core, base: Path, *flags: str) -> Iterator[ComfyServer]:
    """A server with the pack installed, answering; ended when the block is left."""
    prepare(base)
    server = ComfyServer(core, base, flags)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def prepare(base: Path) -> None:
    """Lay out a base folder with this repository and a loader of tiny models as custom nodes; what is there stays."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    place = base / "custom_nodes" / PACK_NAME
    if place.exists():
        return
    try:
        place.symlink_to(PACK, target_is_directory=True)
        (base / "custom_nodes" / TINY_PACK.name).symlink_to(TINY_PACK, target_is_directory=True)
    except OSError:  # Windows without developer mode
        _copy_tracked(place)
        shutil.copytree(TINY_PACK, base / "custom_nodes" / TINY_PACK.name)


def link(source: Path, target: Path) -> Path:
    """Make a file appear at `target`: by a symbolic link, or a copy where links are not allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _copy_tracked(place: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PACK, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (PACK / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACK / name, place / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
