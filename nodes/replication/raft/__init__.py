"""Raft over a log of bytes: the pure core. It is told what happened, says what is to be done, and does nothing itself.

`core.Raft` is the door. Nothing in this package does I/O, reads a clock or draws from a global generator; an
import-linter contract holds that.
"""
