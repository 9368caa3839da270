"""What jeton tells about itself: Prometheus metrics and logs. Imports the domain only."""
