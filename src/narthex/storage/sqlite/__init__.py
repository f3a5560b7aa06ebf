"""SQLite, the default truth."""
