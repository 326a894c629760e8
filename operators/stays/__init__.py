"""A stay: its states, its moves, its records; what `dwell` is made of."""
