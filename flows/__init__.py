"""Sentences: what happens, in order, and the program around it."""
