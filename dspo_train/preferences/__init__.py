"""What a person collected and clicked, kept on disk. `export.py` and `importing.py` turn it from and to pair folders.

Those two need `dspo_train.pairs`, which itself reads this package's log, and are imported by their own names.
"""

from .entries import Group, Outcome, Picture, Removal, Schedule, Undo, Vote
from .log import LOG_NAME
from .store import PreferenceStore
from .types import Already, BrokenLine, Gone, Judged, NewPicture, Progress, Question, Recorded, Reviewed, Status, Undone

__all__ = [
    "LOG_NAME",
    "Already",
    "BrokenLine",
    "Gone",
    "Group",
    "Judged",
    "NewPicture",
    "Outcome",
    "Picture",
    "PreferenceStore",
    "Progress",
    "Question",
    "Recorded",
    "Removal",
    "Reviewed",
    "Schedule",
    "Status",
    "Undo",
    "Undone",
    "Vote",
]
