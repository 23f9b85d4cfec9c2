"""LoRAs: on a model during training or sampling, and in files."""
