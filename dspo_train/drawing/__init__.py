"""Drawing with Pillow: text, sheets of captioned images, line charts."""
