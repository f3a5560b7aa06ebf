"""Embeddings of texts, and what is found with them."""
