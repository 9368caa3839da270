"""Answers that can only come out the same, kept for the tenant that asked. I/O; imports `domain` alone."""
