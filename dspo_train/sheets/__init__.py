"""Captioned sheets of images, for eyes."""
