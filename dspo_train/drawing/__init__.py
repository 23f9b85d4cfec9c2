"""Drawing with Pillow: typefaces and text, tiles of captioned pictures, panels of lines."""
