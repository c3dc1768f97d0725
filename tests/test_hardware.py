"""What the machine is taken to be good at."""

import pytest

from sodakit.hardware import _multiplies_bfloat16_fast


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({}, False),
        ({"avx512_f": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"bf16": True}, True),
    ],
)
def test_bfloat16_is_chosen_where_it_was_measured_to_be_faster(capabilities, fast):
    assert _multiplies_bfloat16_fast(capabilities) is fast
