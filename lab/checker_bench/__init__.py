"""`make bench-checkers`: the linearizability engine against its goals, as ratios to Porcupine in the same run."""
