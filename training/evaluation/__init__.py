"""Depth predictions against truth: metrics, tables and pictures."""
