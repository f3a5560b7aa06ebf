"""The repositories of what `core` defines, a folder per database."""
