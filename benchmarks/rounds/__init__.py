"""What a hundred clicks can teach: one training against rounds, on tastes that nothing was tuned to."""
