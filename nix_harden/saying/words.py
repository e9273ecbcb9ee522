"""Words for people, whatever they are about."""


def printable(words: str) -> str:
    """Words without what a terminal would obey or refuse: control characters and bytes that are no UTF-8 are spelled out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def human(size: int) -> str:
    """A size in bytes for people, in powers of 1024."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
