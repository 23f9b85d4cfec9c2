"""A run from start to finish: its settings, its folder, what is measured on the way and what is written."""
