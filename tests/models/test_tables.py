"""Rows of the embedding table and click statistics, against counts taken row by row."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from features.crosses import CrossTable, bucket_codes, cell_keys
from features.hashing import FOLDS
from features.numeric import NumericColumn
from features.schema import LOG
from features.statistics import NO_FOLD, ClickCounts
from models.backend import tf
from models.tables import CrossStatistics, FoldTables, RowLookup, TableLayout

SMOOTHING = 5.0
# Column A has the values 2, 3 (kept) and 4 (rare), column B the values 2 (kept) and 3 (rare).
KEPT = (2, 1)
IDS = (5, 4)
EDGES = ((-1.0, 0.0, 1.5), (), (0.25,))
LAYOUT = TableLayout(KEPT, EDGES)
# Where the columns begin in a table of 4 + 3 categorical and 5 + 2 + 3 numeric rows.
A, B, N0, N1, N2 = 0, 4, 7, 12, 14
# The same with two hash buckets a column: the ids 5 and 6 of column A, 4 and 5 of column B.
HASHED_IDS = (7, 6)
HASHED = TableLayout(KEPT, EDGES, 2, (3, 2))
HASHED_B = 6


def training_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random ids [n, 2], folds [n] and labels [n]; value 3 of column A occurs in fold 6 only."""
    rng = np.random.default_rng(0)
    ids = np.stack(
        [rng.choice([0, 2, 4], 300, p=[0.2, 0.7, 0.1]), rng.choice([0, 2, 3], 300, p=[0.15, 0.15, 0.7])], axis=1
    )
    folds = rng.integers(FOLDS, size=300)
    ids[np.flatnonzero(folds == 6)[:9], 0] = 3
    return ids.astype(np.int32), folds, rng.integers(2, size=300)


def count(ids: np.ndarray, folds: np.ndarray, labels: np.ndarray, sizes: tuple[int, int] = IDS) -> ClickCounts:
    """Counts of rows, one by one."""
    starts = np.cumsum([0, *sizes[:-1]])
    counts, clicks = np.zeros((2, sum(sizes), FOLDS), np.int64)
    rows, row_clicks = np.zeros((2, FOLDS), np.int64)
    for row, fold, label in zip(ids, folds, labels, strict=True):
        rows[fold] += 1
        row_clicks[fold] += label
        for start, value in zip(starts, row, strict=True):
            counts[start + value, fold] += 1
            clicks[start + value, fold] += label
    return ClickCounts(starts, counts, clicks, rows, row_clicks)


def raw_statistics(value: int, column: int, left_out: int) -> tuple[float, float]:
    """Log-odds and log-count of a value by filtering the training rows; counts as if no fold were left out."""
    ids, folds, labels = training_rows()
    seen = folds != left_out
    mine = seen & (ids[:, column] == value)
    rate, n, k = labels[seen].mean(), mine.sum(), labels[mine].sum()
    return np.log((k + SMOOTHING * rate) / (n - k + SMOOTHING * (1 - rate))), np.log(1 + n * 300 / seen.sum())


@functools.cache
def scale(column: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of both statistics over the training rows, each without its own fold."""
    ids, folds, _ = training_rows()
    seen = np.array([raw_statistics(value, column, fold) for value, fold in zip(ids[:, column], folds, strict=True)])
    # The deviation has a floor: a column that hardly varies would show the noise of its folds.
    return seen.mean(axis=0), np.maximum(seen.std(axis=0), [0.1, 1.0])


def expected_statistics(value: int, column: int, left_out: int) -> np.ndarray:
    """Standardised log-odds and log-count of a value."""
    mean, deviation = scale(column)
    return (np.array(raw_statistics(value, column, left_out)) - mean) / deviation


@pytest.fixture(scope="module")
def counts() -> ClickCounts:
    return count(*training_rows())


@pytest.fixture(scope="module")
def tables(counts: ClickCounts) -> FoldTables:
    return FoldTables(LAYOUT, counts, SMOOTHING)


def test_layout() -> None:
    assert LAYOUT.columns == 5
    assert LAYOUT.starts.tolist() == [A, B, N0, N1, N2]
    assert LAYOUT.rows == N2 + 3


def test_layout_of_columns_takes_the_standardised_edges() -> None:
    columns = [NumericColumn("x", LOG, 1.0, 2.0, 0, (-1.0, 4.0)), NumericColumn("y", LOG, 0.0, 1.0, 3, ())]
    assert TableLayout.of([3, 0], columns) == TableLayout((3, 0), ((-1.0, 1.5), ()))


def test_layout_with_hash_buckets() -> None:
    assert HASHED.columns == 5
    assert HASHED.starts.tolist() == [A, HASHED_B, N0 + 4, N1 + 4, N2 + 4]
    assert HASHED.rows == N2 + 3 + 4
    assert [HASHED.ids(column).tolist() for column in (0, 1)] == [[0, 1, 2, 3, 5, 6], [0, 1, 2, 4, 5]]
    assert [LAYOUT.ids(column).tolist() for column in (0, 1)] == [[0, 1, 2, 3], [0, 1, 2]]


def test_layout_knows_the_vocabulary_only_where_there_are_buckets() -> None:
    assert TableLayout.of([3, 0], [], [9, 4], 5) == TableLayout((3, 0), (), 5, (9, 4))
    assert TableLayout.of([3, 0], [], [9, 4], 0) == TableLayout.of([3, 0], []) == TableLayout((3, 0), ())


@pytest.mark.parametrize(
    ("ids", "rows"),
    [
        ((0, 0), (A, HASHED_B)),  # missing
        ((1, 1), (A + 1, HASHED_B + 1)),  # unseen
        ((2, 2), (A + 2, HASHED_B + 2)),  # kept
        ((3, 3), (A + 3, HASHED_B + 1)),  # kept, rare
        ((4, 4), (A + 1, HASHED_B + 3)),  # rare, the first bucket
        ((5, 5), (A + 4, HASHED_B + 4)),  # the first bucket, the second
        ((6, 6), (A + 5, HASHED_B + 1)),  # the second bucket, beyond the last
        ((7, 1000), (A + 1, HASHED_B + 1)),  # beyond the last
        ((-1, -1000), (A + 1, HASHED_B + 1)),  # no id at all
    ],
)
def test_categorical_rows_with_hash_buckets(ids: tuple[int, int], rows: tuple[int, int]) -> None:
    assert RowLookup(HASHED).categorical(tf.constant([ids])).numpy().tolist() == [list(rows)]


def test_rows_of_hash_buckets_without_kept_values() -> None:
    lookup = RowLookup(TableLayout((0, 0), EDGES, 3, (0, 2)))
    ids = tf.constant([[i, i] for i in range(7)])
    assert lookup.categorical(ids).numpy()[:, 0].tolist() == [0, 1, 2, 3, 4, 1, 1]
    assert (lookup.categorical(ids).numpy()[:, 1] - 5).tolist() == [0, 1, 1, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("ids", "rows"),
    [
        ((0, 0), (A, B)),  # missing
        ((1, 1), (A + 1, B + 1)),  # unseen
        ((2, 2), (A + 2, B + 2)),  # kept
        ((3, 3), (A + 3, B + 1)),  # kept, rare
        ((4, 1000), (A + 1, B + 1)),  # rare
        ((-1, -1000), (A + 1, B + 1)),  # no id at all
    ],
)
def test_categorical_rows(ids: tuple[int, int], rows: tuple[int, int]) -> None:
    lookup = RowLookup(LAYOUT)
    assert lookup.categorical(tf.constant([ids])).numpy().tolist() == [list(rows)]


@pytest.mark.parametrize(
    ("value", "buckets"),
    [
        (-7.0, (0, 0, 0)),
        (-1.0, (1, 0, 0)),  # on an edge: the bucket above it
        (np.nextafter(np.float32(-1), np.float32(-2)), (0, 0, 0)),
        (np.nextafter(np.float32(-1), np.float32(0)), (1, 0, 0)),
        (0.0, (2, 0, 0)),
        (-0.0, (2, 0, 0)),
        (0.25, (2, 0, 1)),
        (1.5, (3, 0, 1)),
        (90.0, (3, 0, 1)),
        (np.inf, (3, 0, 1)),
        (-np.inf, (0, 0, 0)),
        (np.nan, (4, 1, 2)),  # missing: behind the buckets
    ],
)
def test_numeric_rows(value: float, buckets: tuple[int, int, int]) -> None:
    rows = RowLookup(LAYOUT).numeric(tf.fill([1, 3], tf.constant(value, tf.float32)))
    assert rows.numpy().tolist() == [[N0 + buckets[0], N1 + buckets[1], N2 + buckets[2]]]


def test_numeric_rows_agree_with_numpy() -> None:
    rng = np.random.default_rng(1)
    edges = [np.unique(rng.normal(size=size).astype(np.float32)) for size in (39, 17, 1)]
    layout = TableLayout((1,), tuple(tuple(column.tolist()) for column in edges))
    values = rng.normal(size=(500, 3)).astype(np.float32)
    values[:39, 0] = edges[0]
    expected = np.stack([np.digitize(values[:, i], edges[i]) for i in range(3)], axis=1) + layout.starts[1:]
    np.testing.assert_array_equal(RowLookup(layout).numeric(tf.constant(values)), expected)


@pytest.mark.parametrize("layout", [LAYOUT, HASHED])
def test_every_row_of_the_table_can_be_looked_up(layout: TableLayout) -> None:
    lookup = RowLookup(layout)
    ids = np.array([[value, value] for value in range(10)], np.int32)
    dense = np.array([[x, x, x] for x in (-2, -0.5, 0.5, 2, np.nan)] * 2, np.float32)
    found = np.concatenate([lookup.categorical(tf.constant(ids)), lookup.numeric(tf.constant(dense))], axis=1)
    assert sorted(set(found.ravel().tolist())) == list(range(layout.rows))


def test_a_value_of_one_fold_alone_is_shown_to_all_as_one_without_a_row(tables: FoldTables) -> None:
    ids = tf.constant([[3, 2], [2, 0], [0, 3], [1, 1], [4, 2]])
    expected = [[A + 1, B + 2], [A + 2, B], [A, B + 1], [A + 1, B + 1], [A + 1, B + 2]]
    assert tables.rows(ids).numpy().tolist() == expected


@pytest.mark.parametrize("second", [0, 7])
def test_a_value_of_two_folds_has_its_row_unless_one_of_them_is_taken_away(second: int) -> None:
    ids, folds, labels = training_rows()
    # One row of value 3 in another fold.
    ids[np.flatnonzero(folds == second)[0], 0] = 3
    both = count(ids, folds, labels)
    # The teacher of a fold scores that fold with what it was trained on.
    for without, row in (([], A + 3), ([5], A + 3), ([6], A + 1), ([second], A + 1)):
        shown = FoldTables(LAYOUT, both.without(without), SMOOTHING).rows(tf.constant([[3, 2]]))
        assert shown.numpy().tolist() == [[row, B + 2]], without


def test_the_missing_value_is_missing_even_if_the_own_fold_alone_has_it() -> None:
    ids, folds, labels = np.array([[0, 2]] * 4, np.int32), np.array([3, 3, 3, 3]), np.array([1, 0, 0, 1])
    tables = FoldTables(LAYOUT, count(ids, folds, labels), SMOOTHING)
    assert tables.rows(tf.constant(ids[:1])).numpy().tolist() == [[A, B + 1]]


def test_each_row_of_a_batch_has_its_own_fold(tables: FoldTables) -> None:
    folds = (5, 6, 10)
    found = tables.statistics(tf.constant([[3, 2]] * 3), tf.constant(folds)).numpy()
    for fold, statistics in zip(folds, found, strict=True):
        expected = np.stack([expected_statistics(value, i, fold) for i, value in enumerate((3, 2))], axis=1)
        np.testing.assert_allclose(statistics, expected.ravel(), rtol=1e-5, atol=1e-6)
    # Value 3 has nine rows, all in fold 6.
    assert [raw_statistics(3, 0, fold)[1] > 0 for fold in folds] == [True, False, True]
    assert len(np.unique(found[:, 0])) == len(np.unique(found[:, 1])) == 3


@pytest.mark.parametrize("fold", [0, 6, NO_FOLD])
def test_statistics_leave_the_own_fold_out(tables: FoldTables, fold: int) -> None:
    ids = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [4, 2]], np.int32)
    found = tables.statistics(tf.constant(ids), tf.fill([5], fold)).numpy()
    for row, statistics in zip(ids, found, strict=True):
        expected = np.stack([expected_statistics(row[i], i, fold) for i in range(2)], axis=1)
        np.testing.assert_allclose(statistics, expected.ravel(), rtol=1e-5, atol=1e-6)


def test_statistics_of_kept_values_only(counts: ClickCounts, tables: FoldTables) -> None:
    kept_only = FoldTables(LAYOUT, counts, SMOOTHING, kept_only=True)
    ids, folds = (
        tf.constant([[0, 0], [2, 2], [3, 2], [4, 3], [4, 1], [1, 3], [4, 2]]),
        tf.constant([0, 1, 6, 3, 10, 6, 2]),
    )
    found, full = kept_only.statistics(ids, folds).numpy(), tables.statistics(ids, folds).numpy()
    np.testing.assert_array_equal(found[:3], full[:3])
    # Values without a row are shown like one that nobody has seen.
    assert raw_statistics(-1, 0, 3)[1] == 0
    for row, fold, shown in ((3, 3, (-1, -1)), (4, 10, (-1, -1)), (5, 6, (-1, -1)), (6, 2, (-1, 2))):
        expected = np.stack([expected_statistics(shown[i], i, fold) for i in range(2)], axis=1)
        np.testing.assert_allclose(found[row], expected.ravel(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kept_only.rows(ids), tables.rows(ids))


def hashed_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random training rows of the layout with buckets; the second bucket of column B occurs in fold 2 only."""
    rng = np.random.default_rng(3)
    ids = np.stack([rng.choice([0, 2, 3, 4, 5, 6], 400), rng.choice([0, 2, 3, 4], 400)], axis=1).astype(np.int32)
    folds = rng.integers(FOLDS, size=400)
    ids[np.flatnonzero(folds == 2)[:7], 1] = 5
    return ids, folds, rng.integers(2, size=400)


def test_a_hash_bucket_of_one_fold_alone_is_shown_as_a_value_is() -> None:
    tables = FoldTables(HASHED, count(*hashed_rows(), HASHED_IDS), SMOOTHING)
    found = tables.rows(tf.constant([[5, 4], [6, 5], [4, 3]])).numpy().tolist()
    assert found == [[A + 4, HASHED_B + 3], [A + 5, HASHED_B + 1], [A + 1, HASHED_B + 1]]


def test_statistics_of_hash_buckets() -> None:
    """Buckets have statistics of their own, those of rare values are those of a value that nobody has seen."""
    counts = count(*hashed_rows(), HASHED_IDS)
    kept_only, full = (FoldTables(HASHED, counts, SMOOTHING, kept_only=only) for only in (True, False))
    ids, fold = tf.constant([[2, 4], [5, 5], [6, 0], [4, 3], [1, 1]]), tf.constant([0, 2, NO_FOLD, 5, 5])
    found, all_ids = kept_only.statistics(ids, fold).numpy(), full.statistics(ids, fold).numpy()
    np.testing.assert_array_equal(found[:3], all_ids[:3])
    np.testing.assert_array_equal(found[3], all_ids[4])
    assert (found[3] != all_ids[3]).all()
    statistics, starts = counts.statistics(SMOOTHING), (0, HASHED_IDS[0])
    for (row, left_out), shown in zip([(0, 0), (1, 2), (2, NO_FOLD)], ((2, 4), (5, 5), (6, 0)), strict=True):
        cells = [start + value for start, value in zip(starts, shown, strict=True)]
        expected = [*statistics.log_odds[cells, left_out], *statistics.log_count[cells, left_out]]
        np.testing.assert_array_equal(found[row], expected)


def test_own_labels_reach_a_rows_statistics_through_the_common_scale_only() -> None:
    ids, folds, labels = training_rows()
    own = folds == 4
    flipped = np.where(own, 1 - labels, labels)
    one, other = (FoldTables(LAYOUT, count(ids, folds, y), SMOOTHING) for y in (labels, flipped))
    batch, fold = tf.constant(ids), tf.constant(folds, tf.int32)

    def standardised(tables: FoldTables, rows: np.ndarray) -> np.ndarray:
        values = tables.statistics(batch, fold).numpy()[rows].astype(np.float64)
        return (values - values.mean(axis=0)) / values.std(axis=0)

    np.testing.assert_allclose(standardised(one, own), standardised(other, own), atol=1e-5)
    for rest in range(10):
        if rest != 4:
            rows = folds == rest
            assert abs(standardised(one, rows) - standardised(other, rows))[:, :2].max() > 1e-2


def test_tables_without_a_fold_do_not_know_its_labels() -> None:
    ids, folds, labels = training_rows()
    flipped = np.where(folds % 5 == 4, 1 - labels, labels)
    one, other = (FoldTables(LAYOUT, count(ids, folds, y).without([4, 9]), SMOOTHING) for y in (labels, flipped))
    for mine, theirs in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert one.trainable_variables == ()


@pytest.mark.parametrize("layout", [LAYOUT, HASHED])
def test_rows_of_all_ids_agree_with_numpy(layout: TableLayout) -> None:
    """Every id that a training row can have, of values in no fold, in one, and in several."""
    sizes = HASHED_IDS if layout.buckets else IDS
    counts = count(*(hashed_rows() if layout.buckets else training_rows()), sizes)
    tables = FoldTables(layout, counts, SMOOTHING, "none")
    for column, (start, size) in enumerate(zip(layout.starts, sizes, strict=False)):
        ids = np.arange(size)
        own = dict(zip(layout.ids(column).tolist(), range(size), strict=False))
        folds = (counts.counts[counts.starts[column] + ids] > 0).sum(axis=1)
        expected = [start + (own.get(i, 1) if i == 0 or folds[i] > 1 else 1) for i in ids]
        batch = np.ones((size, 2), np.int32)
        batch[:, column] = ids
        assert tables.rows(tf.constant(batch)).numpy()[:, column].tolist() == expected


def test_tables_without_statistics_have_no_memory_for_them(counts: ClickCounts) -> None:
    sizes = {
        statistics: sum(v.shape.num_elements() for v in FoldTables(LAYOUT, counts, SMOOTHING, statistics).variables)
        for statistics in ("none", "folds")
    }
    assert sizes["none"] == N0 and sizes["folds"] == N0 + sum(IDS) * (FOLDS + 1) * 2
    kept = FoldTables(LAYOUT, counts, SMOOTHING, kept_only=True)
    assert sum(v.shape.num_elements() for v in kept.variables) == N0 + N0 * (FOLDS + 1) * 2


def test_statistics_in_time_are_those_of_the_slices() -> None:
    """Which values have a row is decided by the folds, what is known about them by the slices."""
    ids, folds, labels = training_rows()
    slices = np.arange(len(ids)) // 30
    counts, sliced = count(ids, folds, labels), count(ids, slices, labels)
    tables = FoldTables(LAYOUT, counts, SMOOTHING, "time", sliced)
    expected = sliced.statistics(SMOOTHING, "time")
    found = tables.statistics(tf.constant([[3, 2], [0, 3], [4, 0]]), tf.constant([0, 4, NO_FOLD])).numpy()
    for row, (values, time_slice) in enumerate((((3, 2), 0), ((0, 3), 4), ((4, 0), NO_FOLD))):
        cells = [values[0], IDS[0] + values[1]]
        np.testing.assert_array_equal(found[row], expected.values[cells, time_slice].T.ravel())
    assert tables.rows(tf.constant([[3, 2]])).numpy().tolist() == [[A + 1, B + 2]]


def test_statistics_in_time_must_have_counts_by_slice(counts: ClickCounts) -> None:
    with pytest.raises(ValueError, match="counts by time slice"):
        FoldTables(LAYOUT, counts, SMOOTHING, "time")


def test_cross_statistics_by_hand() -> None:
    # Columns 0 and 1 are categorical, column 2 is a number with the buckets below 0, below 1, above, and missing.
    crosses = ((0, 1), (0, 2), (2,))
    cells = [(0, 2, 3), (0, 300_000, 0), (1, 2, 0), (1, 2, 3), (2, 1, 1)]
    keys = np.array([(number << 48) + (first << 24) + second for number, first, second in cells])
    values = np.arange(len(cells) * 11, dtype=np.float32).reshape(-1, 11) + 1
    statistics = CrossStatistics(CrossTable(crosses, keys, values), [np.array([0.0, 1.0], np.float32)])
    rows = [
        # ids, number, fold, expected
        ((2, 3), -5.0, 4, (values[0, 4], values[2, 4], 0)),
        ((2, 3), np.nan, 0, (values[0, 0], values[3, 0], 0)),
        ((300_000, 0), 0.5, NO_FOLD, (values[1, 10], 0, values[4, 10])),
        ((3, 2), 0.0, 9, (0, 0, values[4, 9])),  # another pair than (2, 3); on the edge
        ((499_999, 499_999), 7.0, 3, (0, 0, 0)),
    ]
    ids, numbers, folds, expected = zip(*rows, strict=True)
    found = statistics(tf.constant(ids), tf.constant(numbers, tf.float32)[:, tf.newaxis], tf.constant(folds))
    np.testing.assert_array_equal(found, expected)
    assert statistics(tf.zeros([0, 2], tf.int32), tf.zeros([0, 1]), tf.zeros([0], tf.int32)).shape == (0, 3)


def test_cross_statistics_find_the_cells_that_were_counted() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(6, size=(400, 2)).astype(np.int32)
    dense = rng.normal(size=(400, 2)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = np.nan
    edges = [np.array([-0.5, 0.5], np.float32), np.array([], np.float32)]
    crosses = ((2,), (3,), (0, 1), (0, 2), (1, 3), (2, 3))
    keys = cell_keys(np.concatenate([ids, bucket_codes(dense, edges)], axis=1), crosses)
    known = np.unique(keys)[::2]
    values = rng.normal(size=(len(known), 11)).astype(np.float32)
    fold = rng.integers(11, size=400).astype(np.int32)
    place = {int(key): row for row, key in enumerate(known)}
    expected = [
        [values[place[k], f] if k in place else 0 for k in row] for row, f in zip(keys.tolist(), fold, strict=True)
    ]
    found = CrossStatistics(CrossTable(crosses, known, values), edges)(tf.constant(ids), tf.constant(dense), fold)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("crosses", [(), ((0, 1), (2,))])
def test_cross_statistics_without_cells(crosses: tuple[tuple[int, ...], ...]) -> None:
    table = CrossTable(crosses, np.empty(0, np.int64), np.empty((0, 11), np.float32))
    statistics = CrossStatistics(table, [np.array([0.0], np.float32)])
    found = statistics(tf.constant([[0, 3]] * 2), tf.constant([[0.5], [np.nan]]), tf.constant([0, NO_FOLD]))
    np.testing.assert_array_equal(found, np.zeros((2, len(crosses))))


def test_cross_statistics_are_not_trained() -> None:
    table = CrossTable(((0, 1),), np.array([5]), np.ones((1, 11), np.float32))
    statistics = CrossStatistics(table, [])
    assert statistics.variables
    assert statistics.trainable_variables == ()
