"""LoRAs: on a model while it trains or samples, and in files."""
