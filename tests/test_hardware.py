"""What the machine is taken to be good at."""

import pytest

from sodakit.hardware import _is_slow_with_mkl, _multiplies_bfloat16_fast


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


@pytest.mark.parametrize(
    ("capabilities", "slow"),
    [
        ({}, False),
        ({"avx512_f": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_f": False, "cpu_name": "AMD EPYC"}, False),
    ],
)
def test_onednn_multiplies_float32_where_mkl_was_measured_to_be_slow(capabilities, slow):
    assert _is_slow_with_mkl(capabilities) is slow
