"""The gates of the door: clocks of sources, order, repeats, ranges; what `admit` is made of."""
