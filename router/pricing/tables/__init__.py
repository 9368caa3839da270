"""Public price tables: what they say, read without believing it."""
