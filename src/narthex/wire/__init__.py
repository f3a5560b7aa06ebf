"""Bytes to small objects and back: server-sent events and JSON. No I/O."""
