"""Image files: whole or damaged, decoded, cut to buckets."""
