"""The venue: read, checked, measured; where a point lies and how long a zone waits."""
