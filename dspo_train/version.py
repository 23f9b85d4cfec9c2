"""The version of this library, as run folders and LoRA files record it."""

VERSION = "0.1.0"
