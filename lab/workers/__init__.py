"""Client workers: one forked process on each client host, many logical clients in each."""
