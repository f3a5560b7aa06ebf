"""The process that owns all others. It imports nothing of the application."""
