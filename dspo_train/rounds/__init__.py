"""Training that goes on by itself: the model draws, the taste model labels, the model is trained, and again.

The clicks are asked of the person once. What the taste model says of new images is trusted by degree, and a guard ends
the rounds before what they improve is no longer what was asked for.
"""
