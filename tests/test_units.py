"""Numbers as people read them."""

from sodakit.units import format_bytes, format_count, format_duration, format_passes


def test_numbers_keep_two_or_three_digits_and_a_unit():
    assert [format_count(v) for v in (7, 0.5, 144_644, 2.1e9)] == ["7", "0.5", "144.6k", "2.10B"]
    assert [format_duration(v) for v in (7.25, 75, 7300, 90_000)] == ["7.2s", "1m15s", "2h01m", "1d01h"]
    assert [format_bytes(v) for v in (12, 12_582_912, 3 * 2**40)] == ["12 B", "12.0 MiB", "3.0 TiB"]


def test_passes_over_many_sources_are_a_range():
    assert format_passes([0.714, 12.34]) == "0.71, 12 passes over its sources"
    assert format_passes([1.0] * 7 + [1500.0]) == "1.00 to 1,500 passes over its 8 sources"
