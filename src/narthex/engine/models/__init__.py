"""Model files: the catalogue, where they come from, and whether they are whole."""
