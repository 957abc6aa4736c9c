"""One root seed, many named streams: adding a consumer of chance never shifts another one's numbers."""

import hashlib
import random


def child(seed: int, *names: object) -> random.Random:
    """An independent generator for the stream ``names`` of the root ``seed``; the same inputs give the same stream."""
    text = "/".join([str(seed), *map(str, names)])
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
