"""Batched, differentiable geometry: SE(3), pinhole projection, image warping. Pure functions on tensors."""
