"""Clients of a worker that are RocketMQ's own Java client: one JVM a client host, driven by lines over its pipes."""
