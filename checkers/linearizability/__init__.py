"""Is a recorded history linearizable? Linear-time deciders where they are exact, a windowed search elsewhere."""
