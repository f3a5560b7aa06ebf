"""What the product is: requests, results, streams, errors, seams. No I/O, and nothing of ours is imported here."""
