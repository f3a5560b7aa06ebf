"""Makes the reference pages of `docs/reference` from the code. Run it as `python scripts/docs`."""
