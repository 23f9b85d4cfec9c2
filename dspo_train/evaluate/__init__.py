"""Measuring whether a LoRA is better."""

from .winrate import WinRate, win_rate

__all__ = ["WinRate", "win_rate"]
