"""One file per API surface, as a caller sees it. No dialect knows a provider."""
