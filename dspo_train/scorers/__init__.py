"""What judges images in place of a person."""
