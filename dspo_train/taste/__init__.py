"""A model of the taste: features of images, a head fit to clicks, and what they tell."""
