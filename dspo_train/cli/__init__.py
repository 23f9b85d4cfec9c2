"""The command line: turns arguments into calls of the library, and results into text and progress bars."""
