"""`make compared`: the same faults on our nodes and on Apache's releases, side by side; writes docs/compared.md."""
