"""Where the cores of one shard keep what they remember."""
