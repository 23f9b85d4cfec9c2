"""What a run draws from: pairs and single images encoded once, and batches of them with their randomness."""
