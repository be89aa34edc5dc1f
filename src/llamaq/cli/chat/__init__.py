"""The chat that ``llamaq run`` opens on a terminal."""
