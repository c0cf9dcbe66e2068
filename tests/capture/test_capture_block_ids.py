from __future__ import annotations

import pytest

from megc_stream.capture.block_ids import BlockIds


def missing(ids: BlockIds, *block_ids: int) -> list[int | None]:
    return [ids.missing_before(block_id) for block_id in block_ids]


def test_gaps_are_counted() -> None:
    ids = BlockIds(wraps16=False)
    assert missing(ids, 0, 1, 2, 5, 6, 2**40, 2**40 + 2) == [None, 0, 0, 2, 0, 2**40 - 7, 1]


@pytest.mark.parametrize(("skips_zero", "first"), [(True, 1), (False, 0)])
def test_16_bit_ids_wrap(skips_zero: bool, first: int) -> None:
    ids = BlockIds(wraps16=True, skips_zero=skips_zero)
    assert missing(ids, 65534, 65535, first, first + 1) == [None, 0, 0, 0]
    ids.restart()
    assert missing(ids, 65534, first + 1) == [None, 2]
    ids.restart()
    assert missing(ids, 65535, first + 4) == [None, 4]


def test_every_loss_over_many_rounds_is_found() -> None:
    ids = BlockIds(wraps16=True)
    lost = {3, 4, 65530, 65533, 65534, 65535, 65536, 131068, 131069, 131070, 131071, 150000}
    found = 0
    for n in range(160_000):
        if n not in lost:
            found += ids.missing_before(n % 65535 + 1) or 0
    assert found == len(lost)


def test_an_id_above_16_bits_ends_the_guess_that_ids_wrap() -> None:
    ids = BlockIds(wraps16=True)
    assert missing(ids, 65534, 65536, 65537, 1) == [None, 1, 0, None]


def test_a_count_that_begins_anew_is_no_gap() -> None:
    assert missing(BlockIds(wraps16=False), 700, 1, 2) == [None, None, 0]
    assert missing(BlockIds(wraps16=True), 700, 1, 2) == [None, None, 0]
    assert missing(BlockIds(wraps16=True), 700, 700) == [None, None]
