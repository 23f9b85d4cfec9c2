"""What ranks the policy's own steps, and what watches that the ranking is not merely gamed."""
