"""A process for untrusted work: templates are rendered there under limits of time, memory and size."""
