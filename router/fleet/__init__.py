"""Discovery, health and scraping: the fleet as this process sees it. I/O; imports `domain` and `wire`."""
