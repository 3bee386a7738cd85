"""Depth and pose networks."""
