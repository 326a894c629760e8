"""Verbs: one idea a module, a pure core with no engine, clock or I/O in it."""
