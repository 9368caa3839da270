"""One file for each format that traces come in: how to tell it, and its lines as arrivals."""
