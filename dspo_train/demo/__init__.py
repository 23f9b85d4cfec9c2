"""The embedded demonstration: a tiny Stable-Diffusion-class model of a world of shapes, and a whole run on it."""
