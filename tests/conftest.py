"""For all tests."""

from hypothesis import settings

# Machines are noisy: how long one example takes says nothing.
settings.register_profile("sottovoce", deadline=None)
settings.load_profile("sottovoce")
