"""The driver of the embedded engine: template, tokens, sampling, choices, usage."""
