"""What things cost: price book, engine profile, quotes and the meter. Pure; imports `domain` alone."""
