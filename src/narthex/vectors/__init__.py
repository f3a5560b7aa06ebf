"""Vectors and postings as plain files of numbers: derived, memory-mapped, no SQL."""
