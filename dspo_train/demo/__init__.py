"""The embedded default: a tiny Stable-Diffusion-class model of a world of shapes, and a demonstration on it."""
