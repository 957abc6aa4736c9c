"""The composition root: hosts, supervisor, workers, schedule, drain, verdict."""
