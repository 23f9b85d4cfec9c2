"""From a prompt as people write it for a generator to the words that CLIP reads here.

`(moon:1.5)` weighs words in ComfyUI and A1111, and so do bare parentheses; `BREAK` begins a new chunk in A1111,
`<lora:name:1>` and `embedding:name` choose files. None of that is text: the words stay, the rest is left out. A
parenthesis after a backslash stays, and so does everything else, A1111's [a|b] included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import CLIPTokenizer

from ..files.words import many
from .families import TOKENS

_OPEN, _CLOSE = "\ue000", "\ue001"  # stand for escaped parentheses; from Unicode's private use area
_GROUP = re.compile(r"\(([^()]*)\)")
_WEIGHT = re.compile(r":\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*$")
_BARE = re.compile(r"<\w+:[^<>]*>|\bBREAK\b|\bembedding:[^\s,()]+")
_TOLD = re.compile(rf"\([^()]*{_WEIGHT.pattern.rstrip('$')}\)|{_BARE.pattern}")  # bare parentheses are not worth a word
_SHOWN = 40  # characters of an example
ENDS = 2  # tokens of CLIP's context that are not the prompt's: its start and its end


def as_words(text: str) -> str:
    r"""The prompt without weights and other syntax; one without any is returned as it is.

    >>> as_words(r"a ((red)) fox, (moon:1.5) BREAK smiling \(film\)")
    'a red fox, moon smiling (film)'
    """
    words = _shielded(text)
    while (inner := _GROUP.sub(lambda group: _WEIGHT.sub("", group[1]), words)) != words:
        words = inner
    bare = _BARE.sub("", words)
    words = (tidied(bare) if bare != words else words).replace(_OPEN, "(").replace(_CLOSE, ")")
    return text if words == text else " ".join(words.split())


def tidied(text: str) -> str:
    """Without the commas and spaces that something taken out leaves behind."""
    single = re.sub(r",(?:\s*,)+", ",", text)
    return re.sub(r"\s+(?=[,.;])", "", single).strip(" ,")


def _shielded(text: str) -> str:
    return text.replace(r"\(", _OPEN).replace(r"\)", _CLOSE)


def remarks(texts: Sequence[str], tokenizer: CLIPTokenizer, length: int = TOKENS) -> list[str]:
    """What of these prompts is not read, one sentence each; empty if all of them are read whole.

    Args:
        length: of the text encoder's context, in tokens.
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return []
    found = []
    written = [(text, match[0]) for text in distinct if (match := _TOLD.search(_shielded(text)))]
    if written:
        subject = "1 prompt holds" if len(written) == 1 else f"{len(written)} prompts hold"
        found.append(f"{subject} weights or tags, such as {_short(written[0][1])}: only the words are read")
    if silent := sum(bool(text.strip()) and not as_words(text) for text in distinct):
        hold = "1 prompt holds no words, and counts" if silent == 1 else f"{silent} prompts hold no words, and count"
        found.append(f"{hold} as empty")
    whole = tokenizer([as_words(text) for text in distinct], truncation=False, verbose=False).input_ids
    lost = {text: len(ids) - length for text, ids in zip(distinct, whole, strict=True) if len(ids) > length}
    if lost:
        subject = "1 prompt is" if len(lost) == 1 else f"{len(lost)} prompts are"
        worst = max(lost, key=lambda text: lost[text])
        found.append(
            f"{subject} longer than {length - ENDS} tokens, so the end is not read: at most "
            f"{many(lost[worst], 'token')}, of {_short(worst)!r}"
        )
    return found


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
