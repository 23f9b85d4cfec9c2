"""The parts of a training run's settings: frozen values, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..exceptions import ConfigError
from .setting import SettingGroup, Shown, setting

Targets = Literal["attention", "attention+mlp", "attention+mlp+proj"]
Schedule = Literal["constant", "linear", "cosine"]
Optimizer = Literal["adamw", "adamw8bit"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
Device = Literal["auto", "cpu"]
Crop = Literal["center", "random"]
Method = Literal["lora", "full"]
Labels = Literal["given", "swapped"]
Keep = Literal["last", "best"]
Auto = Literal["auto"]
Unit = Literal["auto", "words", "model"]
Errors = Literal["auto", "model", "v"]


@dataclass(frozen=True)
class LoraSpec(SettingGroup, name="lora"):
    """Shape of the adapter (Hu et al. 2022): W + (alpha / rank) up @ down on every targeted layer."""

    rank: int = setting(
        16,
        "Rank of the LoRA: a higher one can change more and makes a larger file.",
        1,
        1024,
        shown=Shown("train", 3, blank=0, empty="the preset's", example="16", folded=True),
    )
    alpha: float = setting(16.0, "The LoRA's update is scaled by alpha / rank.", 1e-6, 1e6)
    targets: Targets = setting(
        "attention",
        "Which layers of the model are trained; more layers can change more and need more memory.",
        shown=Shown("train", 4, blank="from preset", folded=True),
    )
    dropout: float = setting(0.0, "Share of the LoRA's inputs that is zeroed while training.", 0.0, 0.9)


@dataclass(frozen=True)
class OptimSpec(SettingGroup, name="optim"):
    """AdamW (Loshchilov & Hutter 2019) and its learning-rate schedule."""

    name: Optimizer = setting("adamw", "The optimiser; adamw8bit needs bitsandbytes and saves memory.")
    lr: float = setting(
        1e-4,
        "Peak learning rate.",
        1e-12,
        10.0,
        shown=Shown(
            "train",
            2,
            "learning_rate",
            blank=0.0,
            empty="the preset's",
            example="1e-4",
            note="It warms up over the first 5% of the steps and follows a cosine to zero.",
            folded=True,
        ),
    )
    width: int = setting(
        768,
        "Inputs of the layers, on average, that the learning rate is meant for, as Stable Diffusion 1.5's: in a wider "
        "model a LoRA's down matrices learn that much more slowly, so that a step moves it no further; 0: never.",
        0,
        10**6,
    )
    beta1: float = setting(0.9, "AdamW's decay of the mean gradient.", 0.0, 0.999999)
    beta2: float = setting(0.999, "AdamW's decay of the mean squared gradient.", 0.0, 0.999999)
    eps: float = setting(1e-8, "AdamW's epsilon.", 1e-16, 1.0)
    weight_decay: float = setting(0.01, "AdamW's weight decay.", 0.0, 10.0)
    schedule: Schedule = setting("constant", "The learning rate after the warm-up; linear and cosine end at zero.")
    warmup: int = setting(0, "Steps over which the learning rate rises to its peak.", 0, 10**7)
    max_grad_norm: float = setting(1.0, "Gradients with a larger norm are clipped to it.", 1e-6, 1e9)


@dataclass(frozen=True)
class DataSpec(SettingGroup, name="data"):
    """How images become latents, and which of them a step sees."""

    resolution: int = setting(
        512,
        "Side, in pixels, of the square whose area no training image exceeds.",
        32,
        4096,
        shown=Shown(
            "train",
            5,
            blank=0,
            empty="the model's own",
            example="512",
            note="The model's own is 512 for SD 1.x, 768 for SD 2.x, 64 for the playground and 1024 for the others.",
            folded=True,
        ),
    )
    bucket_step: int = setting(64, "Bucket sides are multiples of this many pixels, itself a multiple of 8.", 8, 512)
    max_aspect: float = setting(
        4.0,
        "Longest over shortest side of the buckets; narrower images are cropped to that shape.",
        1.0,
        4.0,
    )
    flip: bool = setting(
        False,
        "Mirrors half of the draws, both images of a pair alike; off by default because taste may favour a side.",
        shown=Shown("train", 8, folded=True),
    )
    crop: Crop = setting(
        "center", "Where an image is cropped to its bucket; random draws one place per pair, independent of the seed."
    )
    caption_dropout: float = setting(
        0.0, "Share of the draws whose caption is replaced by the empty one, for both images of a pair.", 0.0, 1.0
    )
    one_per_prompt: bool = setting(
        False,
        "Trains only one of the pairs that share a prompt, always the same one (DSPO-nodup).",
        shown=Shown("options", 13, folded=True),
    )
    least_noise: float = setting(
        0.0,
        "Where the range of timesteps to draw from begins: 0 is a clean image, 1 is pure noise.",
        0.0,
        0.99,
        shown=Shown("options", 14, step=0.05, folded=True),
    )
    most_noise: float = setting(
        1.0,
        "Where the range of timesteps to draw from ends: 0 is a clean image, 1 is pure noise.",
        0.01,
        1.0,
        shown=Shown("options", 15, step=0.05, folded=True),
    )

    def check_together(self) -> None:
        if self.least_noise >= self.most_noise:
            raise ConfigError(
                f"`data.least_noise` {self.least_noise:g} must be below `data.most_noise` {self.most_noise:g}; "
                "0 and 1 draw from the whole schedule"
            )
        if self.bucket_step % 8:
            raise ConfigError(f"`data.bucket_step` must be a multiple of 8 (the VAE's), got {self.bucket_step}")
        if self.resolution < self.bucket_step:
            raise ConfigError(
                f"`data.resolution` {self.resolution} is smaller than `data.bucket_step` {self.bucket_step}; "
                "raise the former or lower the latter"
            )


@dataclass(frozen=True)
class LossSpec(SettingGroup, name="loss"):
    """Options that are combined with an objective; see `objectives.combine`. The defaults leave the objective as it is;
    a `safeguard` or a `margin_cap` of 0 is active, at its strictest.
    """

    sft_mix: float = setting(
        0.0,
        "Adds this many times the winner's own error to the loss; 0.25 is common.",
        0.0,
        1e6,
        shown=Shown("options", 6, blank=0.0, empty="none", example="0.25", folded=True),
    )
    label_smoothing: float = setting(
        0.0,
        "Share of the labels assumed to be wrong, such as 0.1; needs an objective that trains on the loser.",
        0.0,
        0.499,
        shown=Shown("options", 7, blank=0.0, empty="none", example="0.1", folded=True),
    )
    safeguard: float | None = setting(
        None,
        "Limits the push away from the loser where it would raise the winner's error (Diffusion-SDPO): the share of "
        "a step's gain on the winner that must remain, 0.2 to 0.9; needs an objective that trains on the loser.",
        0.0,
        1.0,
        shown=Shown("options", 8, blank=0.0, empty="off", example="0.5", folded=True),
    )
    margin_cap: float | None = setting(
        None,
        "Stops training pairs beyond this margin, such as 0.001; needs an objective that trains on the loser.",
        0.0,
        1e3,
        shown=Shown("options", 9, blank=0.0, empty="off", example="0.001", folded=True),
    )
    sharpness: float | Auto | None = setting(
        None,
        "Gives less weight to pairs that are already learned; auto follows the run's own margins, and it replaces the "
        "sharpness of objectives that have their own.",
        1e-6,
        1e7,
        shown=Shown(
            "options",
            10,
            blank="off",
            empty="off",
            example="1000",
            note="dspo's own is 1.4, in what words do; the others measure the model's own error, and hundreds to "
            "thousands are useful.",
            folded=True,
        ),
    )
    unit: Unit = setting(
        "auto",
        "What margins are measured in, for a sharpness or a cap: words is how much other words would change the "
        "untrained model's prediction, which means the same for every model; model is its own mean squared error, as "
        "in papers; auto is words for dspo and model for the others.",
    )
    errors: Errors = setting(
        "auto",
        "What errors are measured in: model is what the network predicts, as in papers; v is the same for all: of a "
        "predicted noise, the noisiest times, at which light and layout are decided, count for next to nothing "
        "otherwise; auto is v for dspo and model for the others.",
    )
    min_snr: float | None = setting(
        None,
        "Gives less weight to timesteps with little noise: gamma of min-SNR (Hang et al. 2023), usually 5.",
        1e-3,
        1e6,
        shown=Shown("options", 12, blank=0.0, empty="off", example="5", folded=True),
    )

    word_budget: float | None = setting(
        None,
        "Holds what the words of a prompt do while the taste moves, so that images keep showing what was asked for: "
        "the share of their effect that may change, such as 0.1; training takes about a quarter longer.",
        1e-4,
        10.0,
        shown=Shown("options", 16, blank=0.0, empty="off", example="0.1", folded=True),
    )
    word_every: int = setting(
        2, "Steps between those at which the words' effect is looked at; fewer are surer and slower.", 1, 1000
    )

    @property
    def options_needing_loser(self) -> tuple[str, ...]:
        """The given settings that need an objective with a loser."""
        given = {
            "label_smoothing": self.label_smoothing > 0,
            "safeguard": self.safeguard is not None,
            "margin_cap": self.margin_cap is not None,
            "sharpness": self.sharpness is not None,
        }
        return tuple(name for name, there in given.items() if there)


@dataclass(frozen=True)
class HeldOutSpec(SettingGroup, name="held_out"):
    """Pairs kept from training, on which a run is measured; see `training.held_out`."""

    share: float = setting(
        0.0,
        "Share of the pairs, by whole prompts, that is measured instead of trained on; 0.1 is a good start.",
        0.0,
        0.9,
        shown=Shown("options", 2, "held_out_share", blank=0.0, empty="none", example="0.1"),
    )
    draws: int = setting(8, "Number of draws of timestep and noise at which each held-out pair is measured.", 4, 1000)
    every: int = setting(
        25,
        "Steps between measurements on the held-out pairs; the last step is always measured.",
        1,
        10**7,
        shown=Shown("options", 3, "held_out_every", folded=True),
    )
    patience: int = setting(
        0,
        "Ends the run after this many measurements without a better one, and keeps the best; 0 never ends it early.",
        0,
        10**6,
        shown=Shown("options", 4, "held_out_patience", blank=0, empty="no early stop", example="3"),
    )

    def check_together(self) -> None:
        if self.patience and not self.share:
            raise ConfigError("`held_out.patience` needs pairs to measure on; set `held_out.share`, for example 0.1")
