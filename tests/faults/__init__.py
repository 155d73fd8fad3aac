"""Kills, cuts and power losses at every point of every recipe, on the lab's real hosts."""
