"""The nouns every room shares. Pure; imports nothing of ours."""
