"""Rows, features and numbers of any space, against Gymnasium's own flattening."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import CHOICES, MIXED, ODD, PAIRS, PLANE
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import check_same_spaces
from mbrl_gym.models.saved import read_archive, space_from_json, space_to_json, write_archive
from mbrl_gym.models.spaces import (
    ActionEncoder,
    Numbering,
    ObservationEncoder,
    event_shape,
    from_rows,
    row_dtype,
    to_rows,
)

discretes = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 4), st.integers(-3, 3))
multis = st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 3)), min_size=1, max_size=3).map(
    lambda pairs: spaces.MultiDiscrete([n for n, _ in pairs], start=[start for _, start in pairs])
)
choices = discretes | multis
boxes = st.builds(
    lambda size, low, dtype: spaces.Box(low, low + 5, (size,), dtype),
    st.integers(1, 3),
    st.integers(-9, 9),
    st.sampled_from([np.float32, np.float64, np.int32]),
)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda part: (
            st.lists(part, min_size=1, max_size=3).map(spaces.Tuple)
            | st.dictionaries(st.sampled_from("zyxab"), part, min_size=1, max_size=3).map(spaces.Dict)
        ),
        max_leaves=4,
    )


def batch_of(space, count, seed=0):
    """Return a batch as vector environments give it, and its single observations."""
    space.seed(seed)
    single = [space.sample() for _ in range(count)]
    return concatenate(space, single, create_empty_array(space, count)), single


def assert_same_batch(first, second):
    if isinstance(first, dict):
        assert list(first) == list(second)
        first, second = tuple(first.values()), tuple(second.values())
    if isinstance(first, tuple):
        assert len(first) == len(second)
        for one, two in zip(first, second, strict=True):
            assert_same_batch(one, two)
    else:
        assert first.dtype == second.dtype
        assert_allclose(first, second, rtol=1e-6)  # rows are float32


# Rows ---------------------------------------------------------------------------------------------------------------


@given(nested(choices | boxes), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_rows_turn_back_into_the_batch(space, count):
    batch, _ = batch_of(space, count)
    rows = to_rows(space, batch)
    assert rows.shape == (count, *event_shape(space))
    back = from_rows(space, rows)
    assert_same_batch(batch, back)
    assert back in batch_space(space, count) or any(dtype_loses(part) for part in leaves_of(space))


def leaves_of(space):
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.values() if isinstance(space, spaces.Dict) else space
        return [leaf for part in inner for leaf in leaves_of(part)]
    return [space]


def dtype_loses(space):
    return space.dtype == np.float64  # float32 rows may round a number over its bound


@given(nested(choices | boxes), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_rows_and_features_are_gymnasiums_flattened_observations(space, count):
    batch, single = batch_of(space, count)
    rows = to_rows(space, batch)
    flat = np.stack([spaces.flatten(space, each) for each in single])
    if isinstance(space, spaces.Dict | spaces.Tuple):
        assert rows.dtype == row_dtype(space)
        doubles = any(leaf.dtype == np.float64 for leaf in leaves_of(space))
        assert rows.dtype == (np.float64 if doubles else np.float32)
        assert_allclose(rows, flat, rtol=1e-6)
    encoder = ObservationEncoder(space, torch.float64)
    assert encoder.size == flat.shape[1]
    assert_allclose(encoder(torch.as_tensor(rows)), flat, rtol=1e-6)
    continuous = [np.full(spaces.flatdim(leaf), isinstance(leaf, spaces.Box)) for leaf in leaves_of(space)]
    assert_array_equal(encoder.continuous, np.concatenate(continuous))


def test_rows_by_hand():
    space = spaces.Dict({"b": spaces.MultiDiscrete([2, 3], start=[5, -1]), "a": spaces.Discrete(2, start=7)})
    batch = {"b": np.array([[5, 1], [6, -1]]), "a": np.array([8, 7])}
    rows = to_rows(space, batch)
    assert list(space) == ["a", "b"]  # Gymnasium sorts a dict
    assert rows.tolist() == [[0, 1, 1, 0, 0, 0, 1], [1, 0, 0, 1, 1, 0, 0]]
    assert_same_batch(from_rows(space, rows), {"a": batch["a"], "b": batch["b"]})
    assert to_rows(CHOICES, np.array([2, 5])).tolist() == [2, 5]
    assert to_rows(PAIRS, np.array([[1, 0]])).tolist() == [[1, 0]]


# Numbers ------------------------------------------------------------------------------------------------------------


@given(nested(choices))
@settings(max_examples=60, deadline=None)
def test_numbering_counts_every_value_once(space):
    numbering = Numbering(space)
    numbers = torch.arange(numbering.count).reshape(1, -1)  # with a leading axis
    rows = numbering.rows(numbers)
    assert rows.shape == (1, numbering.count, *event_shape(space))
    assert torch.equal(numbering.number(rows), numbers)
    assert len({tuple(row.flatten().tolist()) for row in rows[0]}) == numbering.count
    for value in np.unique(np.array([0, numbering.count - 1])):
        assert from_rows(space, rows[0, value : value + 1].numpy()) in batch_space(space, 1)


def test_the_last_choice_runs_fastest():
    numbering = Numbering(PAIRS)  # 1 to 3, and 0 to 1
    assert numbering.count == 6
    assert numbering.rows(torch.arange(6)).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]]
    assert numbering.columns(torch.tensor([[3, 1]])).tolist() == [[2, 1]]
    assert [column.tolist() for column in numbering.split(torch.tensor([5, 0]))] == [[2, 0], [1, 0]]


@pytest.mark.parametrize("space", [PLANE, MIXED], ids=str)
def test_continuous_spaces_have_no_numbers(space):
    with pytest.raises(UnsupportedSpaceError, match="only choices"):
        Numbering(space)


# Decoding -----------------------------------------------------------------------------------------------------------


@given(weights=st.lists(st.floats(-1, 3), min_size=4, max_size=4).filter(lambda w: max(w) > 1e-3))
@settings(max_examples=40, deadline=None)
def test_choices_are_drawn_as_often_as_their_clipped_weights_say(weights):
    encoder, count = ObservationEncoder(CHOICES), 4000
    uniform = (torch.arange(count)[:, None] + 0.5) / count
    predicted = torch.tensor(weights).expand(count, -1)
    drawn = encoder.decode(torch.zeros(count, 4), predicted, uniform)
    clipped = np.clip(weights, 0, None)
    frequencies = np.bincount(drawn - 2, minlength=4) / count
    assert_allclose(frequencies, clipped / clipped.sum(), atol=2 / count)
    most = encoder.decode(torch.zeros(1, 4), predicted[:1])
    assert most.item() == 2 + int(np.argmax(np.float32(clipped)))


@pytest.mark.parametrize("uniform", [0.0, 0.3, 0.999, 1 - 2**-24])
def test_what_has_no_weight_is_never_drawn(uniform):
    encoder = ObservationEncoder(CHOICES)
    rows = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1e-30], [-5.0, 0.0, 0.1, -1.0]])
    drawn = encoder.decode(torch.zeros(4, 4), rows, torch.full((4, 1), uniform))
    assert drawn.tolist() == [3, 2, 5, 4]
    third = torch.full((1, 4), 1 / 3)
    third[:, 0] = third[:, 2] = 0
    assert encoder.decode(third, third, torch.full((1, 1), uniform)).item() in (3, 5)


@pytest.mark.parametrize("uniform", [None, 0.0, 0.5, 1 - 2**-24])
def test_without_any_weight_a_valid_choice_follows(uniform):
    drawn = ObservationEncoder(PAIRS).decode(
        torch.zeros(7, 5), -torch.ones(7, 5), None if uniform is None else torch.full((7, 2), uniform)
    )
    assert drawn.shape == (7, 2)
    assert all(row in PAIRS for row in drawn.numpy())


def test_mixed_observations_change_and_choose():
    encoder = ObservationEncoder(MIXED)
    before = torch.tensor([[1.0, 0.0, 0.0, 5.0, -2.0]])
    predicted = torch.tensor([[0.2, 0.5, 0.3, 0.25, 1.0]])
    after = encoder.decode(before, predicted)
    assert_close(after, torch.tensor([[0.0, 1.0, 0.0, 5.25, -1.0]]))
    drawn = encoder.decode(before, predicted, torch.tensor([[0.9]]))
    assert_close(drawn, torch.tensor([[0.0, 0.0, 1.0, 5.25, -1.0]]))
    assert_close(encoder.targets(before, after), torch.tensor([[0.0, 1.0, 0.0, 0.25, 1.0]]))


@given(nested(choices | boxes))
@settings(max_examples=60, deadline=None)
def test_decoded_targets_are_the_next_observations(space):
    batch, _ = batch_of(space, 6)
    rows = torch.as_tensor(to_rows(space, batch))
    encoder = ObservationEncoder(space, torch.float64)
    before, after = rows[:3], rows[3:]
    targets = encoder.targets(encoder(before), encoder(after))
    uniform = torch.rand((3, len(encoder.groups)), generator=torch.Generator().manual_seed(0))
    for decoded in (encoder.decode(encoder(before), targets), encoder.decode(encoder(before), targets, uniform)):
        assert_close(decoded, after.to(decoded.dtype))


# Actions ------------------------------------------------------------------------------------------------------------


def test_box_actions_are_scaled_to_one():
    encoder = ActionEncoder(ODD, torch.float64)
    action = torch.tensor(np.stack([ODD.low, ODD.high, (ODD.low.astype(float) + ODD.high) / 2]))
    assert_close(
        encoder(action), torch.tensor([[-1.0] * 3, [1.0] * 3, [0.0] * 3], dtype=torch.float64), atol=1e-6, rtol=0
    )
    center, half_range = encoder.affine()
    assert_close((encoder.for_folded(action) - center) / half_range, encoder(action))


@given(choices)
@settings(max_examples=30, deadline=None)
def test_action_choices_are_gymnasiums_one_hot_columns(space):
    batch, single = batch_of(space, 4)
    encoder = ActionEncoder(space)
    flat = np.stack([spaces.flatten(space, each) for each in single])
    for encode in (encoder, encoder.for_folded):
        encoded = encode(torch.as_tensor(batch))
        assert encoded.dtype == torch.float32
        assert_array_equal(encoded, flat)
    assert encoder.size == flat.shape[1]


def test_a_range_of_no_width_is_no_division_by_zero():
    encoder = ActionEncoder(spaces.Box(np.float32([2.0, -1.0]), np.float32([2.0, 1.0])))
    assert_close(encoder(torch.tensor([[2.0, 0.5]])), torch.tensor([[0.0, 0.5]]))


# Files --------------------------------------------------------------------------------------------------------------


@given(space=nested(choices | boxes))
@settings(max_examples=40, deadline=None)
def test_spaces_survive_a_file(space, tmp_path_factory):
    path = tmp_path_factory.mktemp("spaces") / "space.zip"
    write_archive(path, "space", {"space": space_to_json(space)})
    kind, content = read_archive(path)
    loaded = space_from_json(content["space"])
    assert kind == "space"
    assert loaded == space
    assert str(loaded) == str(space)  # the order of a Dict's parts too
    assert [leaf.dtype for leaf in leaves_of(loaded)] == [leaf.dtype for leaf in leaves_of(space)]


def test_unbounded_boxes_survive_too():
    assert space_from_json(space_to_json(PLANE)) == PLANE


def test_spaces_that_files_cannot_hold_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="MultiBinary"):
        space_to_json(spaces.Tuple([spaces.MultiBinary(3)]))


def test_predictions_stay_within_the_bounds_of_the_space():
    half = spaces.Box(np.float32([-1.0, -np.inf, 0.0]), np.float32([1.0, np.inf, np.inf]))
    before = torch.tensor([[0.5, 3.0, 0.25]])
    following = ObservationEncoder(half).decode(before, torch.tensor([[[9.0, 9.0, 9.0]], [[-9.0, -9.0, -9.0]]]))
    assert following.tolist() == [[[1.0, 12.0, 9.25]], [[-1.0, -6.0, 0.0]]]
    mixed = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1.0, 1.0, (1,))})
    following = ObservationEncoder(mixed).decode(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.2, 0.8, 9.0]))
    assert following.tolist() == [0.0, 1.0, 1.0]


def test_bounds_are_rounded_into_the_space():
    narrow = spaces.Box(-0.1, 0.1, (2,), np.float64)
    following = ObservationEncoder(narrow).decode(torch.zeros(2), torch.tensor([9.0, -9.0]))
    assert narrow.contains(from_rows(narrow, following.numpy()))
    point = spaces.Box(0.1, 0.1, (1,), np.float64)  # no float32 lies in it
    assert_allclose(ObservationEncoder(point).decode(torch.zeros(1), torch.ones(1)), 0.1, rtol=1e-6)


def test_whole_numbers_are_rounded_to():
    whole = spaces.Box(-9, 9, (3,), np.int64)
    assert from_rows(whole, np.float32([[2.9999998, -2.9999998, 0.4]])).tolist() == [[3, -3, 0]]


def test_rows_keep_the_digits_of_doubles():
    space = spaces.Dict({"a": spaces.Box(-1e9, 1e9, (1,), np.float64), "b": spaces.Discrete(2)})
    assert to_rows(space, {"a": np.array([[1e7 + 0.25]]), "b": np.array([1])}).tolist() == [[1e7 + 0.25, 0.0, 1.0]]


@pytest.mark.parametrize("choice", [-1, 3])
def test_choices_outside_the_space_are_refused(choice):
    space = spaces.Dict({"k": spaces.Discrete(3)})
    with pytest.raises(InvalidSettingError, match="choices must lie within"):
        to_rows(space, {"k": np.array([choice])})


def test_a_space_with_its_parts_in_another_order_is_another_space():
    box = spaces.Box(-1, 1, (1,))
    first, second = (spaces.Dict([(name, box) for name in names]) for names in ("ab", "ba"))
    assert first == second  # to Gymnasium
    check_same_spaces(SimpleNamespace(observation_space=first, action_space=box), first, box)
    with pytest.raises(InvalidSettingError, match="order of its parts"):
        check_same_spaces(SimpleNamespace(observation_space=second, action_space=box), first, box)
