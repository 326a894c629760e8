"""Triggers, guards, caps, arms, records and commands; what `decide` is made of."""
