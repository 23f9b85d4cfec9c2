"""What a run draws from: pairs and unpaired images, encoded once, and batches of them with their randomness."""
