"""Images in memory and images read as they are needed are the same to those who use them."""

import numpy as np
import pytest

from itae_jax import transforms
from itae_jax.data.images import ArrayImages, LazyImages, UnreadableImageError, as_images
from itae_jax.errors import RequestError
from itae_jax.evaluate import restoration as evaluate

ARRAY = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
BROKEN = (3, 11)


def read(key):
    if key in BROKEN:
        raise UnreadableImageError(f"image {key}", "made to fail")
    return ARRAY[key]


def lazy(keys=range(20), **options):
    return LazyImages(read, tuple(keys), (4, 4, 1), **options)


def flat(images, batch_size, order=None):
    batches = list(images.batches(batch_size, order))
    assert [len(positions) for positions, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    return np.concatenate([positions for positions, _ in batches]), np.concatenate([x for _, x in batches])


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_read_as_needed_equals_in_memory_whatever_the_workers(workers, batch_size):
    order = np.random.default_rng(1).permutation(20)
    expected = flat(lazy().in_memory(), batch_size, order)
    for actual, wanted in zip(flat(lazy(workers=workers), batch_size, order), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    positions, images = expected
    assert sorted(positions) == [i for i in range(20) if i not in BROKEN]
    np.testing.assert_array_equal(images, ARRAY[positions])


def test_what_cannot_be_read_is_left_out_and_remembered():
    for images in (lazy(), lazy(memory_bytes=0)):
        flat(images.in_memory(), 4)
        assert images.unreadable == {"image 3": "made to fail", "image 11": "made to fail"}


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
def test_or_it_ends_the_run_if_the_user_wants(memory_bytes):
    images = lazy(on_corrupt="error", memory_bytes=memory_bytes)
    with pytest.raises(RequestError, match=r"image 3: made to fail; .*data\.on_corrupt=skip"):
        flat(images.in_memory(), 4)


def test_a_selection_keeps_what_is_missing():
    for images in (lazy(), lazy().in_memory()):
        positions, selected = flat(images.select(np.array([4, 3, 2])), 8)
        assert positions.tolist() == [0, 2]
        np.testing.assert_array_equal(selected, ARRAY[[4, 2]])


def test_memory_decides_what_is_read_at_once():
    size = 20 * 4 * 4
    assert isinstance(lazy(memory_bytes=size).in_memory(), ArrayImages)
    assert isinstance(lazy(memory_bytes=size - 1).in_memory(), LazyImages)


def test_images_of_other_sizes_are_refused_with_the_remedy():
    images = LazyImages(lambda key: ARRAY[0], (0,), (8, 8, 1))
    with pytest.raises(RequestError, match=r"is 4x4, others are 8x8; set data\.image_size"):
        images.in_memory()


def test_missing_images_have_no_error_and_no_part_in_the_normaliser():
    transform = transforms.get("rotate")
    errors = evaluate.restoration_errors(lambda x: x * 0.5, lazy(), transform, batch_size=8)
    assert np.flatnonzero(np.isnan(errors).all(1)).tolist() == list(BROKEN)
    readable = [i for i in range(20) if i not in BROKEN]
    whole = evaluate.restoration_errors(lambda x: x * 0.5, ARRAY[readable], transform, batch_size=8)
    np.testing.assert_allclose(errors[readable], whole, rtol=1e-6)
    np.testing.assert_allclose(evaluate.normal_errors(errors), whole.mean(0), rtol=1e-6)


def test_training_from_files_equals_training_from_memory(make_trainer):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (24, 16, 16, 1), np.uint8)
    trainer = make_trainer("identity", epochs=2)

    def losses(images):
        reports = []
        trainer.train(images, (0,), lambda report, state: reports.append(report.loss))
        return reports

    files = LazyImages(lambda key: array[key], tuple(range(24)), (16, 16, 1), memory_bytes=0)
    assert losses(files) == losses(array)


def test_arrays_are_taken_and_others_refused():
    assert len(as_images(ARRAY)) == 20
    with pytest.raises(TypeError, match="got float64"):
        as_images(ARRAY / 255)
