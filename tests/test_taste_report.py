"""Images in order of their scores, and what is said of how well a taste is known."""

from __future__ import annotations

import numpy as np

from dspo_train.drawing.themes import LIGHT
from dspo_train.images.buckets import Bucket
from dspo_train.taste.assessment import Assessment, unknown
from dspo_train.taste.charts import reliability_chart
from dspo_train.taste.features import _image_stream
from dspo_train.taste.prepared import no_larger
from dspo_train.taste.ranking import best_first
from dspo_train.taste.report import report_text

KNOWN = Assessment(
    *(120, 20, 0.86, 0.81, 0.9, 0.35, ((0.55, 0.5, 20), (0.75, 0.8, 40), (0.95, 1.0, 60)), 0.84, None),
    "We know your taste to 86% (81% to 90%); more clicks would tell little more.",
)
UNKNOWN = unknown(8, 2, 8, 2)


def test_the_best_image_of_each_prompt_comes_first():
    scores = np.array([0.1, 0.9, 0.5, 0.7, 0.5])
    prompts = ["cat", "dog", "cat", "dog", "cat"]
    assert best_first(scores, prompts) == [2, 4, 0, 1, 3], "of equals the earlier one"
    assert best_first(scores, prompts, 1) == [2, 1]
    assert best_first(scores, prompts, 9) == [2, 4, 0, 1, 3]
    assert best_first(scores, [""] * 5, 3) == [1, 3, 2]
    assert best_first(np.empty(0), []) == []


def test_a_report_says_how_often_a_certainty_came_true():
    assert report_text(KNOWN).splitlines() == [
        KNOWN.text,
        "From 120 pairs of 20 prompts.",
        "",
        "Sure to, on prompts it had not seen: right",
        "55%: 50% of 20",
        "75%: 80% of 40",
        "95%: 100% of 60",
    ]
    assert report_text(UNKNOWN).splitlines() == [UNKNOWN.text, "From 8 pairs of 2 prompts."]


def test_the_chart_has_a_line_where_there_are_figures():
    known, unknown = reliability_chart(KNOWN, title="my-taste"), reliability_chart(UNKNOWN)
    assert known.size == unknown.size == (800, 600)
    colours = [{colour for _, colour in image.getcolors(1 << 24) or []} for image in (known, unknown)]
    assert LIGHT.series[0] in colours[0] and LIGHT.series[0] not in colours[1]


def test_of_text_and_image_the_image_is_looked_at():
    """As ComfyUI's blocks give them: SD 3.5 and Qwen-Image the text first, FLUX the image; others one of them."""
    text, image = np.zeros(2), np.ones(3)
    assert _image_stream("joint_blocks.3", (None, image)) is image  # type: ignore[arg-type]
    assert _image_stream("transformer_blocks.59", (text, image)) is image  # type: ignore[arg-type]
    assert _image_stream("double_blocks.18", (image, text)) is image  # type: ignore[arg-type]
    assert _image_stream("layers.7", image) is image


def test_a_small_image_is_not_enlarged():
    """500 is nearer to 512 than to 448; 16 has no room for a smaller bucket than one step."""
    square, wide = Bucket(512, 512), Bucket(704, 320)
    sizes = [(1024, 1024), (500, 500), (256, 256), (16, 16)]
    assert [no_larger(square, size, 64).width for size in sizes] == [512, 512, 256, 64]
    assert no_larger(wide, (352, 160), 64) == Bucket(384, 128)
