"""Platforms: the paths, names and oddities of each; nothing else knows them."""
