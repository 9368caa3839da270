"""jeton's router: from an OpenAI-shaped request to the cheapest replica that will answer it well and in time."""
