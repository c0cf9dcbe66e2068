from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megc_stream.output.arrow_columns import floats, integers, string_lists, strings


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers(values: list[int]) -> None:
    column = integers(values)
    assert column.type == pa.int64()
    assert column.to_pylist() == values


@given(st.lists(st.none() | st.floats(allow_nan=False)))
def test_floats_have_nulls_for_none(values: list[float | None]) -> None:
    column = floats(values)
    column.validate(full=True)
    assert column.type == pa.float64()
    assert column.to_pylist() == values
    assert column.null_count == values.count(None)


def test_not_a_number_is_no_null() -> None:
    assert math.isnan(floats([math.nan, None])[0].as_py())


@given(st.lists(st.text()))
def test_strings(values: list[str]) -> None:
    column = strings(values)
    column.validate(full=True)
    assert column.type == pa.string()
    assert column.to_pylist() == values


@given(st.lists(st.lists(st.text())))
def test_lists_of_strings(values: list[list[str]]) -> None:
    column = string_lists(values)
    column.validate(full=True)
    assert column.type == pa.list_(pa.string())
    assert column.to_pylist() == values


@pytest.mark.parametrize("make", [integers, floats, strings, string_lists])
def test_no_values_at_all(make: object) -> None:
    assert callable(make)
    assert len(make([])) == 0
