"""Cuts text into chunks. Whole texts in, exact places out; no I/O."""
