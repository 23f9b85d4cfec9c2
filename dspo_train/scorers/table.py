"""Scorers by name. A new one is a class and a row here.

A scorer labels candidates, measures a model, and guides the choice among steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..exceptions import ConfigError
from .scorer import Scorer
from .toys import ToyTaste, further_left, large_and_dark

# A row makes its scorer on request, so that a scorer with a model of its own loads nothing before that.
SCORERS: Mapping[str, Callable[[], Scorer]] = {
    "large_and_dark": lambda: ToyTaste(large_and_dark),
    "further_left": lambda: ToyTaste(further_left),
}


def make_scorer(name: str) -> Scorer:
    """Make a scorer by name; an unknown name is a ConfigError."""
    if name not in SCORERS:
        raise ConfigError(f"unknown scorer {name!r}; known: {', '.join(SCORERS)}")
    return SCORERS[name]()
