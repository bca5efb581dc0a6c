"""The probe for traces of compression, and the command that runs it on a folder."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from itae_jax import cli, transforms
from itae_jax.detection import compression
from itae_jax.errors import RequestError

ROTATE = transforms.get("rotate")


def noise(count):
    """Smooth noise, count x 32 x 32 x 3 uint8: no direction differs from another."""
    fine = np.random.default_rng(0).normal(size=(count, 32, 32, 3))
    smooth = gaussian_filter(fine, (0, 1, 1, 0), mode="wrap")
    return np.uint8(np.clip(128 + 40 * smooth / smooth.std(), 0, 255))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The same 100 images in the folders `png`, never compressed, and `jpg`, at quality 30."""
    root = tmp_path_factory.mktemp("photos")
    for suffix, options in (("png", {}), ("jpg", {"quality": 30})):
        (root / suffix).mkdir()
        for number, image in enumerate(noise(100)):
            Image.fromarray(image).save(root / suffix / f"{number:03}.{suffix}", **options)
    return root


def finding(folder, *assignments, transform=ROTATE):
    images = compression.images_of(folder, transform, assignments)
    return compression.check(transform, images, folder)


def test_probe_warns_of_jpegs_at_their_own_size_alone(photos):
    assert finding(photos / "jpg").warns
    assert not finding(photos / "png").warns
    assert not finding(photos / "jpg", "data.image_size=28").warns, "resizing removes the grid"


def test_probe_does_not_mind_members_that_the_erased_pixels_tell(photos):
    found = finding(photos / "jpg", transform=transforms.get("masks"))
    assert found.passed and not found.warns


def test_transforms_check_warns_without_failing(photos, capsys):
    assert cli.main(["transforms", "check", "rotate", "--images", str(photos / "jpg")]) == 0
    *laws, warning = capsys.readouterr().out.splitlines()
    assert len(laws) == 11 and not any("compression" in line for line in laws)
    assert warning.startswith("compression    warns ") and "by chance 25 %" in warning


def test_transforms_check_refuses_a_folder_that_it_cannot_probe(photos, tmp_path, refused):
    jpegs = photos / "jpg"
    assert "no such folder" in refused("transforms", "check", "rotate", "--images", tmp_path / "none")
    assert "one member" in refused("transforms", "check", "gray", "--images", jpegs)
    assert "24 pixels" in refused("transforms", "check", "rotate", "--images", jpegs, "--size", 16)
    assert "--images" in refused("transforms", "check", "rotate", "--size", 32)
    for number in range(39):
        (tmp_path / f"{number}.png").write_bytes((photos / "png" / f"{number:03}.png").read_bytes())
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(RequestError, match="39 images there can be read"):
        finding(tmp_path)
