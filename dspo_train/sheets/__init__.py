"""Captioned sheets of images."""
