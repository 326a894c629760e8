"""Features, models and their training; what `score` is made of."""
