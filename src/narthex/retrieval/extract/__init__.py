"""Draws text out of files, in a process of its own: files are untrusted, and so is every parser."""
