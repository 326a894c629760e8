"""What all tests share: a law is no timed test, so no example of it has a deadline."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
