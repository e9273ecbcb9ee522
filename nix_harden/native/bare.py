"""What bare.h does, for what is compared with it; pure."""

MULTIPLIER, WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


def digest(start: int, data: bytes) -> int:
    """`digest` of bare.h."""
    found = start
    padded = data + bytes(-len(data) % 8)
    for word in memoryview(padded).cast("Q"):
        found = ((found ^ word) * MULTIPLIER) & WORD
        found ^= found >> 32
    return found
