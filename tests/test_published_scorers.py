"""Published scorers against their formulas, written out from the published names on tiny random weights.

No real weights were there when this was written. Where they are, DSPO_SCORER_WEIGHTS names a folder with
ImageReward.pt, vocab.txt, and the four pictures of ImageReward's README as 1.webp to 4.webp.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_scorers import (
    EMBEDDED,
    OpenClip,
    head_shapes,
    randomised,
    reward_features,
    reward_state,
    tiny,
    tiny_clip,
    write_vocabulary,
)
from torch import Tensor
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)

from dspo_train.exceptions import ConfigError
from dspo_train.images.decode import load_rgb, to_images
from dspo_train.scorers import clip, image_reward
from dspo_train.scorers.preprocessing import CentreCrop, Letterbox
from dspo_train.scorers.published import PublishedScorer
from dspo_train.scorers.table import SCORERS, make_pixel_scorer, make_scorer

__all__ = ["tiny"]  # a fixture

PROMPTS = ("a photo of a cat", "a cat", "a photo of a cat")
CLIP_IDS = {"a photo of a cat": [49406, 320, 1125, 539, 320, 2368, 49407], "a cat": [49406, 320, 2368, 49407]}
REWARD_PROMPTS = ("a red fox in snow", "Fox", "a red dog")
REWARD_IDS = ([2, 5, 6, 7, 8, 9, 3], [2, 7, 3], [2, 5, 6, 1, 3])  # [CLS] and [SEP] around them; 1 is [UNK]


@pytest.fixture
def float64() -> Iterator[None]:
    """As the default, too, in which transformers 4.46 makes CLIP's causal mask."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn(count: int = 3, height: int = 200, width: int = 260) -> Tensor:
    """Waves between 0.2 and 0.8, so that scaling leaves none of them outside [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 7, width), indexing="ij")
    phases = torch.arange(3 * count).view(count, 3, 1, 1)
    return 0.5 + 0.3 * torch.sin(x + phases) * torch.cos(y - 2 * phases)


def write_open_clip(folder: Path) -> Path:
    path = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 3, "state_dict": OpenClip().state_dict()}, path)
    return path


def write_clip(folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_file(tiny_clip().state_dict(), path)
    return path


def write_aesthetic(folder: Path) -> Path:
    """The head; CLIP lies beside it, in a folder called as its repository."""
    beside = folder / "clip-vit-large-patch14"
    beside.mkdir(parents=True)
    save_file(tiny_clip(big=False).state_dict(), beside / "model.safetensors")
    path = folder / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(randomised(head_shapes(EMBEDDED)), path)
    return path


def write_reward(folder: Path) -> Path:
    write_vocabulary(folder / "vocab.txt")
    path = folder / "ImageReward.pt"
    torch.save(reward_state(), path)
    return path


@dataclass(frozen=True)
class Published:
    """How a tiny copy is written, what it is asked, and what it should answer to prepared pixels."""

    write: Callable[[Path], Path]
    prompts: tuple[str, ...]
    prepared: Callable[[Tensor], Tensor]
    formula: Callable[[Tensor], Tensor]


def cosine_by_open_clip(prepared: Tensor) -> Tensor:
    return OpenClip().double().cosine(prepared, [CLIP_IDS[prompt] for prompt in PROMPTS])


def cosine_by_towers(prepared: Tensor) -> Tensor:
    """transformers' two towers apart, without padding."""
    whole = tiny_clip().double()
    config: Any = whole.config
    vision, text = CLIPVisionModelWithProjection(config.vision_config), CLIPTextModelWithProjection(config.text_config)
    for tower in (vision, text):
        assert not tower.eval().double().load_state_dict(whole.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        seen = vision(pixel_values=prepared).image_embeds
        said = torch.cat([text(input_ids=torch.tensor([CLIP_IDS[prompt]])).text_embeds for prompt in PROMPTS])
    return torch.cosine_similarity(seen, said)


def pickscore(prepared: Tensor) -> Tensor:
    return tiny_clip().logit_scale.double().exp() * cosine_by_towers(prepared)


def aesthetic(prepared: Tensor) -> Tensor:
    """Linear layers without activations are one: w . v + b, with v of length one."""
    whole = tiny_clip(big=False)
    config: Any = whole.config
    tower = CLIPVisionModelWithProjection(config.vision_config).eval().double()
    tower.load_state_dict(whole.state_dict(), strict=False)
    head = {name: value.double() for name, value in randomised(head_shapes(EMBEDDED)).items()}
    w, b = torch.eye(EMBEDDED, dtype=torch.float64), torch.zeros(EMBEDDED, dtype=torch.float64)
    for n in (0, 2, 4, 6, 7):
        w, b = head[f"layers.{n}.weight"] @ w, head[f"layers.{n}.weight"] @ b + head[f"layers.{n}.bias"]
    with torch.no_grad():
        v = tower(pixel_values=prepared).image_embeds
    return ((v / v.square().sum(-1, keepdim=True).sqrt()) @ w.T + b).squeeze(-1)


def reward(prepared: Tensor) -> Tensor:
    """(MLP(h) - mean) / std"""
    state = {name: value.double() for name, value in reward_state().items() if value.is_floating_point()}
    h = reward_features(state, prepared, REWARD_IDS)
    for n in (0, 2, 4, 6, 7):
        h = h @ state[f"mlp.layers.{n}.weight"].T + state[f"mlp.layers.{n}.bias"]
    return (h.squeeze(-1) - 0.16717362830052426) / 1.0333394966054072


PUBLISHED = {
    "pickscore": Published(write_clip, PROMPTS, CentreCrop().of_pixels, pickscore),
    "hps_v2.1": Published(write_open_clip, PROMPTS, Letterbox().of_pixels, cosine_by_open_clip),
    "aesthetic": Published(write_aesthetic, PROMPTS, CentreCrop().of_pixels, aesthetic),
    "clip_score": Published(write_clip, PROMPTS, Letterbox().of_pixels, cosine_by_towers),
    "image_reward": Published(write_reward, REWARD_PROMPTS, CentreCrop(odd="even").of_pixels, reward),
}


def made(name: str, weights: Path, **changes: Any) -> PublishedScorer:
    scorer = make_pixel_scorer(name, weights)
    assert isinstance(scorer, PublishedScorer)
    return replace(scorer, **changes)


each_scorer = pytest.mark.parametrize("name", PUBLISHED)


def test_every_published_scorer_is_tried() -> None:
    assert list(PUBLISHED) == [name for name, row in SCORERS.items() if row.files]
    assert all(SCORERS[name].differentiable for name in PUBLISHED)


@each_scorer
def test_a_score_is_its_formula(name: str, tiny: None, float64: None, tmp_path: Path) -> None:
    one = PUBLISHED[name]
    pixels = drawn().double()
    found = make_pixel_scorer(name, one.write(tmp_path), dtype=torch.float64).score_pixels(pixels, one.prompts)
    expected = one.formula(one.prepared(pixels))
    assert found.shape == (3,) and expected.std() > 0.01
    assert torch.allclose(found, expected, rtol=1e-9)


@each_scorer
def test_images_are_scored_as_evaluations_prepare_them(name: str, tiny: None, tmp_path: Path) -> None:
    """In batches of two, in float64, from 8-bit images; nearly as their pixels are."""
    one = PUBLISHED[name]
    scorer = made(name, one.write(tmp_path), at_once=2)
    images = to_images(drawn() * 2 - 1)
    found = scorer.score(images, one.prompts)
    assert found.dtype == torch.float64 and found.shape == (3,) and not found.requires_grad
    levels = torch.stack([torch.tensor(list(image.tobytes())).view(200, 260, 3).permute(2, 0, 1) for image in images])
    by_pixels = scorer.score_pixels(levels / 255, one.prompts).double()
    assert torch.allclose(found, by_pixels, atol=0.1 * float(by_pixels.std()))
    assert scorer.score([], []).shape == (0,)


@each_scorer
def test_the_gradient_is_that_of_the_score(name: str, tiny: None, float64: None, tmp_path: Path) -> None:
    """Along a direction, (s(x + h d) - s(x - h d)) / 2h in float64; the weights are frozen."""
    one = PUBLISHED[name]
    scorer = make_pixel_scorer(name, one.write(tmp_path), dtype=torch.float64)
    pixels = drawn().double().requires_grad_()
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scorer.score_pixels(pixels, one.prompts).sum().backward()
    assert pixels.grad is not None
    step = 1e-4
    with torch.no_grad():
        ends = [scorer.score_pixels(pixels + sign * step * direction, one.prompts).sum() for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    assert slope.abs() > 1e-6
    assert torch.allclose((pixels.grad * direction).sum(), slope, rtol=1e-4)


@each_scorer
def test_only_the_prompts_that_are_read_matter(name: str, tiny: None, tmp_path: Path) -> None:
    one = PUBLISHED[name]
    scorer = make_pixel_scorer(name, one.write(tmp_path))
    same = drawn(1).expand(3, -1, -1, -1)
    found = scorer.score_pixels(same, one.prompts)
    assert torch.allclose(found, scorer.score_pixels(same, one.prompts[::-1]).flip(0), atol=1e-6)
    assert (found.std() > 1e-4) == SCORERS[name].reads_prompts


def test_open_clip_reads_entities_as_characters_and_pickscore_does_not(tiny: None, tmp_path: Path) -> None:
    written, meant = ["a cat &amp; a photo"], ["a cat & a photo"]
    for name, same in (("hps_v2.1", True), ("pickscore", False)):
        scorer = make_pixel_scorer(name, PUBLISHED[name].write(tmp_path))
        scores = [float(scorer.score_pixels(drawn(1), prompts)) for prompts in (written, meant)]
        assert (scores[0] == scores[1]) == same, name


def test_long_prompts_are_cut(tiny: None, tmp_path: Path) -> None:
    """75 of CLIP's tokens and 33 of BERT's, with the end behind them."""
    for name, word, kept in (("pickscore", "cat", 75), ("image_reward", "fox", 33)):
        scorer = make_pixel_scorer(name, PUBLISHED[name].write(tmp_path))
        scores = [float(scorer.score_pixels(drawn(1), [" ".join([word] * n)])) for n in (kept - 1, kept, kept + 9)]
        assert scores[1] == scores[2] != scores[0], name


def test_weights_are_frozen_and_nothing_is_random(tiny: None, tmp_path: Path) -> None:
    for name, one in PUBLISHED.items():
        folder = tmp_path / name
        folder.mkdir()
        network = made(name, one.write(folder)).network
        assert not any(part.training for part in network.modules()), name
        assert not any(weight.requires_grad for weight in network.parameters()), name
        assert not any(tensor.is_meta for tensor in [*network.parameters(), *network.buffers()]), name


def test_what_does_not_fit_is_refused(tiny: None, tmp_path: Path) -> None:
    scorer = make_pixel_scorer("pickscore", write_clip(tmp_path))
    with pytest.raises(ValueError, match=r"pixels \(3, 3, 200, 260\), 2 prompts; wanted"):
        scorer.score_pixels(drawn(), PROMPTS[:2])
    with pytest.raises(ValueError, match="1 images and 2 prompts"):
        scorer.score([Image.new("RGB", (64, 64))], PROMPTS[:2])
    with pytest.raises(ConfigError, match=r"further_left has no gradient; those that have one: pickscore, hps_v2\.1"):
        make_pixel_scorer("further_left")
    with pytest.raises(ConfigError, match="further_left is a function without weights"):
        make_scorer("further_left", tmp_path)


def test_the_real_architectures_are_as_large_as_the_published_ones() -> None:
    """In parameters, to a tenth of a million; and what no size shows."""
    with torch.device("meta"):
        models: dict[str, Any] = {name: CLIPModel(CLIPConfig(**getattr(clip, name))) for name in ("VIT_H", "VIT_L")}
        models["ViT-L/16"] = BlipVisionModel(BlipVisionConfig(**image_reward.VISION))
        models["BERT"] = BlipTextModel(BlipTextConfig(**image_reward.TEXT), add_pooling_layer=False)
    counts = {name: round(sum(one.numel() for one in model.parameters()) / 1e6, 1) for name, model in models.items()}
    assert counts == {"VIT_H": 986.1, "VIT_L": 427.6, "ViT-L/16": 303.3, "BERT": 142.0}
    for name, act in (("VIT_H", "gelu"), ("VIT_L", "quick_gelu")):
        config: Any = models[name].config
        assert config.vision_config.hidden_act == act and config.text_config.hidden_act == act
        assert config.text_config.eos_token_id == 49407


REAL = os.environ.get("DSPO_SCORER_WEIGHTS")


@pytest.mark.skipif(REAL is None, reason="DSPO_SCORER_WEIGHTS names no folder with real weights")
def test_the_published_scores_of_four_pictures() -> None:
    """THUDM/ImageReward's README, from its assets/images; on another machine the last digits may differ."""
    folder = Path(REAL or "")
    prompt = "a painting of an ocean with clouds and birds, day time, low depth field effect"
    images = [load_rgb(folder / f"{n}.webp") for n in (1, 2, 3, 4)]
    found = make_scorer("image_reward", folder).score(images, [prompt] * 4)
    published = [0.5811622738838196, 0.2745276093482971, -1.4131819009780884, -2.029569625854492]
    assert found.tolist() == pytest.approx(published, abs=0.02)
