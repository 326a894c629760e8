"""Nouns: what travels, the topics it travels on, and how it is written down."""
