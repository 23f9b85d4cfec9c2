"""Image files: checked, decoded, cropped to buckets."""
