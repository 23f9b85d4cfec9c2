"""What a developer runs by hand; not part of the package."""
