"""What each reader makes of one folder: every reader runs, and every table is opened, at most once in a scan."""

from __future__ import annotations

from functools import cached_property

from ..preferences.log import LOG_NAME
from .collected import read_collected
from .folders import read_ranked, read_subfolders, read_suffixes
from .listing import Listing
from .readings import LayoutReading
from .table_files import TableFile


class Readers:
    """A listed folder and its readers; each runs when it is first asked for, and its result is kept."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self._tables: dict[str, TableFile] = {}

    @cached_property
    def collected(self) -> LayoutReading | None:
        """None where the folder has no log of votes.

        Raises:
            DatasetError: the log cannot be read, or a newer program made it.
        """
        return read_collected(self.listing) if LOG_NAME in self.listing.tables else None

    @cached_property
    def subfolders(self) -> LayoutReading:
        return read_subfolders(self.listing)

    @cached_property
    def suffixes(self) -> LayoutReading:
        return read_suffixes(self.listing)

    @cached_property
    def ranked(self) -> LayoutReading:
        return read_ranked(self.listing)

    def table(self, name: str) -> TableFile:
        """The `.jsonl` or `.csv` table of that name in the listing."""
        if name not in self._tables:
            self._tables[name] = TableFile(self.listing.root / name)
        return self._tables[name]

    def top_tables(self, *wanted: str) -> list[str]:
        """The tables of these names that lie directly in the folder, spelled as on disk, in the order wanted."""
        top = {name.lower(): name for name in reversed(self.listing.tables) if "/" not in name}
        return [top[name] for name in wanted if name in top]

    @property
    def parquet_files(self) -> list[str]:
        """Those in the folder or one level below it."""
        tables = self.listing.tables
        return [name for name in tables if name.lower().endswith(".parquet") and name.count("/") <= 1]
