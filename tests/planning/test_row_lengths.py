"""What row lengths say of padding, packing and cutting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_toys import EVEN, SHORT

from model_trainer.services.planning.lengths import Lengths, choose_max_length, guess_lengths


@st.composite
def lengths(draw: st.DrawFn) -> Lengths:
    p50, p95, p99, longest = sorted(draw(st.lists(st.integers(1, 20_000), min_size=4, max_size=4)))
    mean = draw(st.floats(max(1.0, p50 / 2), max(1.0, float(longest))))
    return Lengths(mean=mean, p50=p50, p95=p95, p99=p99, max=longest, sample=100)


@given(lengths(), st.integers(1, 64), st.integers(1, 20_000))
def test_padding_is_a_share_and_the_longest_of_more_rows_is_longer(rows: Lengths, batch: int, limit: int) -> None:
    assert 0 <= rows.padding(batch, limit) < 1
    assert rows.mean_cut(limit) <= rows.mean
    if batch > 1:
        assert rows.longest_of(batch, limit) <= rows.longest_of(batch * 2, limit) + 1e-9
        assert rows.longest_of(batch, limit) <= limit


@given(lengths())
def test_max_length_is_a_multiple_of_64_within_the_model_and_holds_99_percent(rows: Lengths) -> None:
    chosen = choose_max_length(rows, None)
    assert chosen % 64 == 0
    assert chosen >= rows.p99
    assert choose_max_length(rows, 512) <= 512


def test_uneven_rows_waste_half_a_batch_and_even_ones_little() -> None:
    # Measured on such rows: 57 % of a batch of 8 was padding.
    assert SHORT.padding(8, 512) == pytest.approx(0.57, abs=0.08)
    assert EVEN.padding(8, 256) < 0.1


def test_a_long_tail_is_cut_and_a_short_one_kept() -> None:
    tail = Lengths(mean=100, p50=90, p95=200, p99=300, max=9000, sample=100)
    assert choose_max_length(tail, None) == 320
    assert choose_max_length(SHORT, None) == 512


def test_lengths_without_a_tokenizer_come_from_bytes_and_say_so() -> None:
    guessed = guess_lengths(400_000, 1000)
    assert guessed.mean == 100
    assert not guessed.measured
    assert SHORT.measured
