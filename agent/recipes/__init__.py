"""Recipes: one file per scenario, diagnosis in, plan out; no effects."""
