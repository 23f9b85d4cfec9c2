"""How well a taste is known, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .head import Assessment


def report_text(assessment: Assessment) -> str:
    """The assessment's sentence, what it rests on, and how often it was right where it said how sure it was."""
    lines = [assessment.text, f"From {assessment.pairs} pairs of {assessment.prompts} prompts."]
    if assessment.reliability:
        lines += ["", "Sure to, on prompts it had not seen: right"]
        lines += [f"{said:.0%}: {right:.0%} of {count}" for said, right, count in assessment.reliability]
    return "\n".join(lines)
