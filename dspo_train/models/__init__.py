"""The models: how each family is loaded, conditioned, noised and sampled. Only here is diffusers imported."""
