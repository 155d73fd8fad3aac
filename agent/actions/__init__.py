"""Actions: what steps do on a host, each with its check, its undo and its proof."""
