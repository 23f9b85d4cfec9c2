"""What a person collected and clicked, kept on disk. `pairs/export.py` and `pairs/importing.py` convert it."""

from .entries import Group, Outcome, QuestionSchedule, Removal, StoredImage, Undo, Vote
from .guided import Guide
from .log import LOG_NAME
from .store import PreferenceStore
from .types import (
    Already,
    BrokenLine,
    Gone,
    GroupQuestion,
    Judged,
    NewImage,
    Opinion,
    Question,
    Recorded,
    RecordedBallot,
    Reviewed,
    Status,
    Undone,
    VotingProgress,
)

__all__ = [
    "LOG_NAME",
    "Already",
    "BrokenLine",
    "Gone",
    "Group",
    "GroupQuestion",
    "Guide",
    "Judged",
    "NewImage",
    "Opinion",
    "Outcome",
    "PreferenceStore",
    "Question",
    "QuestionSchedule",
    "Recorded",
    "RecordedBallot",
    "Removal",
    "Reviewed",
    "Status",
    "StoredImage",
    "Undo",
    "Undone",
    "Vote",
    "VotingProgress",
]
