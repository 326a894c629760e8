"""Evidence between identifiers, and the forest it makes; what `stitch` is made of."""
