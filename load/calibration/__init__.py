"""Fitting the engine profile's constants to measured runs, and saying how well they do."""
