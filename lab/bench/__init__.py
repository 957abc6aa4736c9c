"""Measured figures with their goals (`make bench`): medians of one run on one machine, never asserted in a test."""
