"""Training on the policy's own steps, beside one training on the clicks and rounds."""
