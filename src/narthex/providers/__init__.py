"""One file per wire format of a model's server. No provider knows a dialect."""
