"""What bare.h does, for what is compared with it; pure."""

import itertools

MULTIPLIER, WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


def digest(start: int, data: bytes | memoryview) -> int:
    """`digest` of bare.h."""
    found, whole = start, len(data) - len(data) % 8
    words = itertools.chain(
        memoryview(data)[:whole].cast("Q"), [int.from_bytes(data[whole:], "little")] if whole < len(data) else ()
    )
    for word in words:
        found = ((found ^ word) * MULTIPLIER) & WORD
        found ^= found >> 32
    return found
