"""Images in memory and images read as they are needed give their users the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from itae_jax.data.images import ArrayImages, LazyImages, UnreadableImageError, as_images
from itae_jax.errors import RequestError
from itae_jax.training import loop

ARRAY = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
BROKEN = (3, 11)


def read(key):
    if key in BROKEN:
        raise UnreadableImageError(f"image {key}", "made to fail")
    return ARRAY[key]


def lazy(**options):
    return LazyImages(read, range(20), (4, 4, 1), **options)


def flat(images, batch_size, order=None):
    batches = list(images.batches(batch_size, order))
    assert [len(positions) for positions, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    return np.concatenate([positions for positions, _ in batches]), np.concatenate([x for _, x in batches])


@pytest.mark.parametrize("workers", [1, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_lazy_batches_equal_those_in_memory(workers, batch_size):
    order = np.random.default_rng(1).permutation(20)
    expected = flat(lazy().in_memory(), batch_size, order)
    for actual, wanted in zip(flat(lazy(workers=workers), batch_size, order), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    positions, images = expected
    assert sorted(positions) == [i for i in range(20) if i not in BROKEN]
    np.testing.assert_array_equal(images, ARRAY[positions])


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
def test_unreadable_images_are_left_out_and_recorded_or_end_the_run(memory_bytes):
    images = lazy(memory_bytes=memory_bytes)
    flat(images.in_memory(), 4)
    assert images.unreadable == {"image 3": "made to fail", "image 11": "made to fail"}
    images = lazy(memory_bytes=memory_bytes, on_corrupt="error")
    with pytest.raises(RequestError, match=r"image 3: made to fail.*data\.on_corrupt=skip"):
        flat(images.in_memory(), 4)


def test_select_keeps_what_is_missing():
    for images in (lazy(), lazy().in_memory()):
        positions, selected = flat(images.select(np.array([4, 3, 2])), 8)
        assert positions.tolist() == [0, 2]
        np.testing.assert_array_equal(selected, ARRAY[[4, 2]])


def test_in_memory_reads_what_fits_into_memory_bytes():
    assert isinstance(lazy(memory_bytes=ARRAY.size).in_memory(), ArrayImages)
    assert isinstance(lazy(memory_bytes=ARRAY.size - 1).in_memory(), LazyImages)


def test_training_from_files_equals_training_from_memory(make_trainer, bars):
    trainer = make_trainer("itae", "train.epochs=2")

    def losses(images):
        reports = []
        loop.train(trainer, images, (0,), lambda report, state: reports.append(report.loss))
        return reports

    files = LazyImages(bars.__getitem__, range(len(bars)), bars.shape[1:], memory_bytes=0)
    assert losses(files) == losses(as_images(bars))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([np.uint8, np.int8, np.uint16, np.int64, np.bool_, np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4),
)
def test_as_images_takes_four_axes_of_uint8_alone(dtype, shape):
    if dtype == np.uint8 and len(shape) == 4:
        assert len(as_images(np.zeros(shape, dtype))) == shape[0]
        return
    with pytest.raises(TypeError, match=r"expected N x H x W x C uint8 images|convert floats"):
        as_images(np.zeros(shape, dtype))
