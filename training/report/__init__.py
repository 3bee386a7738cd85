"""Runs side by side: tables, curves and pictures on one page."""
