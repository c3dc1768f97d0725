"""Whole numbers in Chinese characters, as Mandarin says them."""

_DIGITS = "零一二三四五六七八九"
_SMALL = ("", "十", "百", "千")
_LARGE = ("", "万", "亿", "万亿")


def in_chinese(figures: str, *, digits: bool = False) -> str:
    """A number of at most 16 figures; with `digits` figure by figure, as years and decimals are said."""
    if digits:
        return "".join(_DIGITS[int(figure)] for figure in figures)
    number = int(figures)
    if number == 0:
        return _DIGITS[0]
    groups = []
    while number:
        number, group = divmod(number, 10_000)
        groups.append(group)
    said = ""
    for place in range(len(groups) - 1, -1, -1):
        group = groups[place]
        if not group:
            said += "" if not said or said.endswith("零") else "零"
            continue
        if said and group < 1000 and not said.endswith("零"):
            said += "零"
        said += _group(group) + _LARGE[place]
    said = said.rstrip("零")
    return said.removeprefix("一") if said.startswith("一十") else said


def _group(number: int) -> str:
    """Below ten thousand."""
    said = ""
    for place, figure in enumerate(f"{number:04d}"):
        if figure != "0":
            said += _DIGITS[int(figure)] + _SMALL[3 - place]
        elif said and not said.endswith("零"):
            said += "零"
    return said.rstrip("零")
