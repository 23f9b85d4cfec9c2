"""A set that was collected and judged here, `preferences.jsonl` and `images/`: as pairs, or as opinions."""

from __future__ import annotations

from collections.abc import Iterator

from ..preferences.log import LOG_NAME, read_log
from ..preferences.state import SetState
from .listing import Listing, stem_of
from .readings import Candidate, LayoutReading, RatedCandidate
from .types import Defect, Layout


def read_collected(listing: Listing) -> LayoutReading | None:
    """One pair for each win that counts; None where the file of that name is not ours.

    Ties are counted, and with them the pairs of which both images are bad: neither has a winner. Skips, and votes
    that were undone, replaced or removed, are left out without a defect. A broken line is a defect, since it may have
    held a vote.

    Raises:
        DatasetError: the log cannot be read, or a newer program made it.
    """
    begun = _begin(listing, "collected")
    if begun is None:
        return None
    state, reading = begun
    for judged in state.judged():
        where = f"{LOG_NAME}:{state.line_of[judged.vote.id]}"
        winner, loser = judged.winner, judged.loser
        if winner is None or loser is None:
            reading.ties += 1
            continue
        if _missing(listing, reading, where, winner, loser):
            continue
        captions = listing.captions_at(stem_of(winner), stem_of(loser))
        prompt = one_line(judged.prompt)
        reading.pairs.append(Candidate(f"{winner}>{loser}", where, winner, loser, captions, prompt))
    return reading


def read_opinions(listing: Listing) -> LayoutReading | None:
    """Each image that is liked or disliked by itself, where a ballot or a vote called some bad; see `Opinion`.

    Raises:
        DatasetError: see `read_collected`.
    """
    begun = _begin(listing, "opinions")
    if begun is None:
        return None
    state, reading = begun
    for it in state.opinions():
        where = f"{LOG_NAME}:{state.line_of[it.vote.id]}"
        if not _missing(listing, reading, where, it.image):
            captions, prompt = listing.captions_at(stem_of(it.image)), one_line(it.prompt)
            reading.images.append(RatedCandidate(it.image, where, it.image, it.liked, captions, prompt))
    return reading


def _begin(listing: Listing, layout: Layout) -> tuple[SetState, LayoutReading] | None:
    """The set as its log tells it, and a reading with the log's broken lines."""
    state = SetState()
    state.feed(read_log(listing.root / LOG_NAME))
    if state.header is None and not state.groups:
        return None
    reading = LayoutReading(layout, used={LOG_NAME, *_images_of(listing, state)})
    reading.defects += [Defect("bad_metadata", f"{LOG_NAME}:{it.line}", it.message) for it in state.broken]
    return state, reading


def _missing(listing: Listing, reading: LayoutReading, where: str, *images: str) -> bool:
    """Is one of the images not there? The defect is noted."""
    missing = next((name for name in images if name not in listing.image_of), None)
    if missing:
        message = f"the image {missing} is missing; put it back, or remove it from the set"
        reading.defects.append(Defect("missing_file", where, message))
    return missing is not None


def _images_of(listing: Listing, state: SetState) -> Iterator[str]:
    """All images that were ever offered for a vote, and their captions."""
    for group in state.groups.values():
        for name in group.images:
            yield name
            yield from listing.captions_at(stem_of(name))


def one_line(prompt: str) -> str:
    """A prompt as captions are read: its lines joined, as ComfyUI's text boxes wrap prompts at will."""
    return " ".join(line.strip() for line in prompt.splitlines() if line.strip())
