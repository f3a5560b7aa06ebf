"""Speech that is made here: a program that speaks, and one that encodes."""
