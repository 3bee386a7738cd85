"""Recipes against each other on equal budgets."""
