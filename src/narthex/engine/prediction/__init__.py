"""Answers whose text the caller predicts: a process of its own checks the predicted tokens in batches."""
