"""The loop, and what moves in it."""
