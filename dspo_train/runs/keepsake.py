"""What lies beside a LoRA in ComfyUI's folder: a picture that LoRA browsers show, and a file that says what it is.

    NAME.safetensors     with a small picture in its header (`modelspec.thumbnail`)
    NAME.preview.png     without the LoRA and with it
    NAME.json            as A1111's and Forge's card of a LoRA: description, notes, weight; our facts under `dspo`

A file of one of these names that we did not write is left as it is.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import files
from ..drawing.grids import ab_grid
from ..exceptions import DspoError
from ..lora.header import tensors_in, with_metadata
from ..lora.lineage import HASH, file_metadata
from ..objectives import OBJECTIVES
from .examples import Example, examples_of
from .folder import RunFolder

if TYPE_CHECKING:
    from ..drawing.result_card import ResultCard
    from ..drawing.run_card import RunCard

OWN = "dspo"  # our key in the JSON file; our mark in the picture holds the hash of the LoRA's tensors
_THUMBNAIL = 256  # pixels; ComfyUI reads headers of up to 1 MB
_CELL = 384  # pixels, the longer side of an image in the preview


def deliver(folder: RunFolder, path: Path) -> list[str]:
    """Write a finished run's LoRA, then what lies beside it. -> what could not be written, a sentence each

    A LoRA that is there with the same tensors stays as it is, whatever its metadata; another file of that name is kept
    under a new one.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    result, examples = folder.result.read_bytes(), examples_of(folder)
    notes = _deliver_lora(result, path, examples)
    beside = {"preview": lambda: _deliver_preview(path, examples), "description": lambda: _deliver_card(folder, path)}
    for what, write in beside.items():
        try:
            write()
        except (OSError, DspoError) as error:
            notes.append(f"the {what} of {path.name} could not be written: {error}")
    return notes


def note_test(path: Path, test: Mapping[str, Any], sentence: str) -> None:
    """Write the result of a blind test into the file beside a LoRA; one that we did not write is left as it is.

    Args:
        test: plain values; replaces an earlier result.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    card = path.with_suffix(".json")
    known = files.read_json_object(card)
    if not isinstance(known.get(OWN), dict):
        return
    own = {**known[OWN], "test": dict(test)}
    wanted = _described({**known, OWN: own}, own, sentence)
    if wanted != known:
        files.write_json(card, wanted)


def _deliver_lora(result: bytes, path: Path, examples: Sequence[Example]) -> list[str]:
    notes = []
    if path.exists():
        there = path.read_bytes()
        if tensors_in(there) == tensors_in(result):
            return notes
        kept = path.with_name(f"{path.stem}.replaced-{hashlib.sha256(there).hexdigest()[:8]}{path.suffix}")
        notes.append(f"{path.name} was not written by its run; it is kept as {kept.name}")
        path.replace(kept)
    picture = {"modelspec.thumbnail": thumbnail(examples[0].lora)} if examples else {}
    files.write_bytes(path, with_metadata(result, picture) if picture else result)
    return notes


def thumbnail(image: Image.Image) -> str:
    """A data URI of at most 256 x 256 pixels."""
    small, buffer = image.convert("RGB"), io.BytesIO()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    small.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def preview(examples: Sequence[Example], name: str) -> Image.Image:
    """Two columns, base and LoRA, a row for each prompt: upright, as browsers show their cards."""
    cells = [[example.base, example.lora] for example in examples]
    return ab_grid([""] * len(cells), ["base", name], cells, cell_size=_CELL)


def _deliver_preview(path: Path, examples: Sequence[Example]) -> None:
    file, own = path.with_suffix(".preview.png"), _hash(path)
    if not examples or (file.exists() and _mark(file) in ("", own)):
        return
    about, buffer = PngInfo(), io.BytesIO()
    about.add_text(OWN, own)
    preview(examples, path.stem).save(buffer, format="PNG", pnginfo=about)
    files.write_bytes(file, buffer.getvalue())


def _deliver_card(folder: RunFolder, path: Path) -> None:
    card, own = path.with_suffix(".json"), _hash(path)
    known = files.read_json_object(card)
    if card.exists() and (not isinstance(known.get(OWN), dict) or known[OWN].get("hash") == own):
        return
    facts = {"hash": own, **run_facts(folder)}
    empty = {"description": "", "activation text": "", "preferred weight": 1.0, "notes": ""}
    files.write_json(card, _described({**empty, OWN: facts}, facts, ""))


def run_facts(folder: RunFolder) -> dict[str, Any]:
    """What a run's own files say of it: plain values, those that are known."""
    identity, request = files.read_json_object(folder.identity), files.read_json_object(folder.request)
    metadata = file_metadata(folder.result)
    known = identity.get("config")
    config = known if isinstance(known, dict) else {}
    pairs = request.get("pairs")
    refine = identity.get("refine")
    found = {
        "lora": folder.result.stem,
        "set": pairs[0] if isinstance(pairs, list) and pairs else "",
        "base": metadata.get("dspo.base", ""),
        "parent": refine.get("name", "") if isinstance(refine, dict) else "",
        "date": metadata.get("modelspec.date", ""),
        "pairs": int(metadata.get("dspo.pairs", "0")),
        "steps": int(metadata.get("ss_steps", "0")),
        "objective": metadata.get("dspo.objective", ""),
        "objective_args": json.loads(metadata.get("dspo.objective_args", "{}")),
        "learning_rate": metadata.get("ss_learning_rate", ""),
        "rank": metadata.get("ss_network_dim", ""),
        "resolution": (config.get("data") or {}).get("resolution", 0),
        "description": metadata.get("modelspec.description", ""),
        "usage": metadata.get("modelspec.usage_hint", ""),
    }
    return {key: value for key, value in found.items() if value}


def card_of(folder: RunFolder, result: ResultCard | None) -> RunCard:
    """What the card of a run shows.

    Args:
        result: of a blind test of its LoRA.
    """
    from ..drawing.run_card import RunCard

    facts = run_facts(folder)
    arguments, objective = facts.get("objective_args", {}), OBJECTIVES.get(facts.get("objective", ""))
    own = None if objective is None else objective.own_number
    shown = [
        ("set", facts.get("set")),
        ("pairs", f"{facts['pairs']:,}" if "pairs" in facts else None),
        ("base", facts.get("base")),
        ("steps", f"{facts['steps']:,}" if "steps" in facts else None),
        (str(own), arguments.get(own)),
        ("rank", facts.get("rank")),
        ("learning rate", facts.get("learning_rate")),
        ("refined from", facts.get("parent")),
        ("date", facts.get("date", "")[:10]),
    ]
    examples = [(one.prompt, one.base, one.lora) for one in examples_of(folder)]
    subtitle = f"A preference LoRA for {facts.get('base', 'its base model')}, trained with DSPO Studio"
    return RunCard(
        folder.result.stem, subtitle, examples, result, [(name, str(value)) for name, value in shown if value]
    )


def _described(card: dict[str, Any], own: dict[str, Any], sentence: str) -> dict[str, Any]:
    """The card with our words in it, except where a person has written others; `written` holds ours."""
    before = own.get("written", {})
    ours = {"description": own.get("description", ""), "notes": " ".join(filter(None, (own.get("usage"), sentence)))}
    for key, text in ours.items():
        if card.get(key, "") in ("", before.get(key, "")):
            card[key] = text
    return {**card, OWN: {**own, "written": ours}}


def _hash(path: Path) -> str:
    return file_metadata(path).get(HASH, "")


def _mark(picture: Path) -> str:
    """The hash of the LoRA that a picture of ours shows; empty for another's picture."""
    try:
        with Image.open(picture) as image:
            return str(image.info.get(OWN, ""))
    except OSError:
        return ""
