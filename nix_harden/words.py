"""Words for people, whatever they are about."""


def printable(words: str) -> str:
    """Words without what a terminal would obey or refuse: control characters and bytes that are no UTF-8 are spelled out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
