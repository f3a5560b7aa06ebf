"""The embedded engine: llama.cpp in a child process, its slots, its models, and the driver that speaks to it."""
