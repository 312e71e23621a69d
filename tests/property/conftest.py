"""How many examples a property is tried on, where it does not say: other ones in every run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quire", max_examples=50, deadline=None)
settings.load_profile("quire")
