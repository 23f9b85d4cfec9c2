"""A run from start to finish: its settings, its folder, its measurements and its results."""
