"""Who asks, and how often: API key → tenant, rate limits. Imports `domain` and its slice of the configuration."""
