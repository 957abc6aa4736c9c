"""What holds for every test: hypothesis draws the same examples in every run, and no machine is too slow for it."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "same-everywhere", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same-everywhere")
