"""What of a prompt is read: one rule for text files, metadata and the prompts that are drawn."""

from __future__ import annotations

import pytest
from PIL import PngImagePlugin
from test_pairs import fill, picture
from tiny_models import tiny_tokenizer

from dspo_train.models.prompt_text import as_words, remarks
from dspo_train.models.tokenizers import prompt_remarks
from dspo_train.pairs import scan_folder


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a cat, on a mat", "a cat, on a mat"),
        ("  two  spaces stay ", "  two  spaces stay "),
        ("(moon:1.5)", "moon"),
        ("a (red:1.2), (blue: .5) cat", "a red, blue cat"),
        ("((very (detailed:1.1)):0.9) eyes", "very detailed eyes"),
        ("masterpiece BREAK a cat", "masterpiece a cat"),
        ("a cat, BREAK", "a cat"),
        ("breakfast at a BREAKWATER", "breakfast at a BREAKWATER"),
        ("embedding:easynegative, ugly", "ugly"),
        ("a cat <lora:foo:1>, dog", "a cat, dog"),
        ("<lora:a:1>, a cat, <segment:face>, dog", "a cat, dog"),
        (r"a portrait \(oil\)", "a portrait (oil)"),
        (r"(a portrait \(oil\):1.2)", "a portrait (oil)"),
        ("a [cat|dog]", "a [cat|dog]"),
        ("a girl :)", "a girl :)"),
        ("ratio (16:9)", "ratio 16"),
        ("noon (at 12:30)", "noon at 12"),
        ("", ""),
    ],
)
def test_the_words_stay_and_the_rest_goes(written, read):
    assert as_words(written) == read


def test_what_is_not_read_is_counted_once_per_prompt(tmp_path):
    """CLIP's context holds 77 tokens, of which two are its start and end. 'dog' is one token: 80 lose 5, 90 lose 15."""
    tokenizer = tiny_tokenizer(tmp_path)
    prompts = ["dog " * 80, "dog " * 90, "dog " * 90, "(dog:1.5) " + "dog " * 74, "red dog", "((dog))"]
    assert remarks(prompts, tokenizer) == [
        "1 prompt holds weights or tags, such as (dog:1.5): only the words are read",
        "2 prompts are longer than 75 tokens, so the end is not read: at most 15 tokens, of 'dog dog dog dog dog dog "
        "dog dog dog d...'",
    ]
    assert remarks(["red dog", r"saber \(fate\)", "photo (2019)", "", "(dog), ( )"], tokenizer) == []
    assert remarks([r"\(x\) <lora:a:1> dog"], tokenizer)[0].startswith(
        "1 prompt holds weights or tags, such as <lora:a:1>:"
    )
    assert remarks(["BREAK", "<lora:a:1>", "dog"], tokenizer)[1:] == ["2 prompts hold no words, and count as empty"]
    assert remarks([], tokenizer) == []


def test_without_a_model_clips_own_vocabulary_counts():
    """One token for each comma and word: 40 words and 39 commas are 79."""
    (remark,) = prompt_remarks([", ".join(["moon"] * 40)])
    assert remark.startswith("1 prompt is longer than 75 tokens") and "at most 4 tokens" in remark


def test_lora_tags_are_no_words_wherever_a_prompt_comes_from(tmp_path):
    """They are told with the other tags, whether they come from a text file or from metadata."""
    for name in ("a", "b"):
        fill(tmp_path, {f"{name}_w.png": ord(name), f"{name}_l.png": ord(name) + 50})
    fill(tmp_path, {"a.txt": "a cat <lora:style:0.8>, (big:1.2)"})
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat <lora:style:0.8>, (big:1.2)\nSteps: 20")
    picture(tmp_path / "b_w.png", 200, pnginfo=info)
    prompts = [pair.prompt for pair in scan_folder(tmp_path).pairs]
    assert prompts == ["a cat <lora:style:0.8>, (big:1.2)"] * 2
    assert prompt_remarks(prompts)[0].startswith("1 prompt holds weights or tags")
    assert [as_words(prompt) for prompt in prompts] == ["a cat, big"] * 2
