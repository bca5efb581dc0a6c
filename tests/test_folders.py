"""Folder trees as published, made small: what is found, in which order, and what is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from itae_jax import data
from itae_jax.config import DataConfig
from itae_jax.data import cifar, folders, imagenet
from itae_jax.errors import RequestError


def picture(path, value=100, size=(20, 20), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)


@pytest.fixture
def tree(tmp_path):
    """Two classes, cat and dog; two training images and one test image of each."""
    root = tmp_path / "pets"
    for value, name in ((10, "cat"), (200, "dog")):
        for split, count in (("train", 2), ("test", 1)):
            for i in range(count):
                picture(root / split / name / f"{i}.png", value + i)
    return root


def load(root, name="folder", **fields):
    return data.load(DataConfig(name=name, root=str(root), **fields))


def pixels(images):
    return images.in_memory().array


def test_a_tree_is_a_data_set_of_the_users_own(tree):
    dataset = load(tree)
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pets", ("cat", "dog"), (20, 20, 3))
    assert dataset.coverage == "own"
    assert dataset.source == "folder pets: 4 + 2 png"
    split = dataset.split(1)
    assert pixels(split.train_images)[:, 0, 0, 0].tolist() == [200, 201]
    assert split.test_ids == ("test/cat/0.png", "test/dog/0.png")
    assert split.is_anomaly.tolist() == [True, False]


def test_a_tree_may_be_the_current_directory_have_any_names_and_call_its_test_images_val(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert (load(".").name, load(".").source) == ("pets", "folder pets: 4 + 2 png")
    picture(tree / "train" / "großer Hund" / "ein Bild ü.JPG", 50)
    (tree / "test").rename(tree / "val")
    dataset = load(tree)
    split = dataset.split(dataset.class_index("großer Hund"))
    assert (len(pixels(split.train_images)), split.test_ids) == (1, ("val/cat/0.png", "val/dog/0.png"))


def test_a_class_without_training_images_is_always_anomalous(tree):
    picture(tree / "test" / "wolf" / "0.png")
    dataset = load(tree)
    assert (dataset.class_names, dataset.trainable) == (("cat", "dog", "wolf"), (0, 1))
    with pytest.raises(RequestError, match="no training image of 'wolf'"):
        dataset.class_index("wolf")


def test_a_tree_has_one_channel_if_all_images_are_grey(tree):
    for path in tree.rglob("*.png"):
        picture(path, mode="L")
    assert load(tree).image_shape[2] == 1
    picture(tree / "train" / "cat" / "0.png")
    assert load(tree).image_shape[2] == 3
    assert load(tree, channels=1).image_shape[2] == 1


def test_a_tree_of_several_sizes_needs_a_size(tree):
    picture(tree / "train" / "cat" / "1.png", size=(30, 40))
    with pytest.raises(RequestError, match=r"1\.png.*40x30.*20x20.*data\.image_size"):
        pixels(load(tree).split(0).train_images)
    assert pixels(load(tree, image_size=16).split(0).train_images).shape == (2, 16, 16, 3)


def test_superclasses_join_folders_to_classes(tree, tmp_path):
    picture(tree / "train" / "wolf" / "0.png")
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("folder,class\ndog,canine\nwolf,canine\ncat,feline\n")
    dataset = load(tree, superclasses=str(mapping))
    assert dataset.class_names == ("canine", "feline")
    assert len(dataset.split(0).train_images) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "header folder,class"),
        ("\ufefffolder;class\r\ncat;feline\r\n", "mapping.csv: semicolons divide its columns"),
        ("folder,class\ncat,\n", "header folder,class"),
        ("folder,class\n../../secret,x\ncat,y\n", "leaves the directory"),
        ("folder,class\n/etc,x\ncat,y\n", "leaves the directory"),
        ("folder,class\ncat,x\ndgo,y\ncta,y\n", "no folder dgo, cta in train or test"),
        ("folder,class\ncat,x\ndog,y\ncat,y\n", "lists a folder twice"),
    ],
)
def test_superclasses_that_cannot_be_used_are_refused(tree, tmp_path, text, message):
    mapping = tmp_path / "mapping.csv"
    mapping.write_text(text)
    with pytest.raises(RequestError, match=message):
        load(tree, superclasses=str(mapping))


def test_a_folder_that_cannot_be_read_is_refused(tree, monkeypatch):
    (tree / "secret").mkdir()
    scandir = os.scandir

    def denied(path):
        if os.path.basename(path) == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(RequestError, match=r"secret: cannot be read \(Permission denied\)"):
        folders.find_images(tree)


def test_find_images_ends_on_a_loop_of_links_and_leaves_out_hidden_files(tree):
    os.symlink(tree / "train", tree / "train" / "cat" / "loop")
    (tree / "train" / "cat" / ".hidden.png").write_text("x")
    (tree / "train" / "cat" / "notes.txt").write_text("x")
    found = [path.relative_to(tree).as_posix() for path in folders.find_images(tree / "train" / "cat")]
    assert found[:2] == ["train/cat/0.png", "train/cat/1.png"]
    assert len(found) == len(set(found)) < 10


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: os.rename(root, f"{root}2"), "no such directory"),
        (lambda root: os.rename(root / "test", root / "tst"), "folders train and test .* found train, tst"),
        (lambda root: [path.unlink() for path in root.glob("train/*/*")], "no images in the folders cat, dog"),
        (lambda root: [path.unlink() for path in root.glob("test/*/*")], "no images in the folders cat, dog"),
        (lambda root: [path.write_text("x") for path in root.glob("train/*/*")], "no image there can be read"),
    ],
)
def test_a_tree_that_lacks_something_is_refused(tree, spoil, message):
    spoil(tree)
    with pytest.raises(RequestError, match=message):
        load(tree)


def test_a_published_set_is_read_from_a_tree_and_padded(tree):
    dataset = load(tree, "cifar10")
    assert (dataset.name, dataset.image_shape) == ("cifar10", (32, 32, 3))
    assert dataset.coverage == "other"
    assert pixels(dataset.split(0).train_images)[0, 0, 0, 0] == 0


def test_coverage_is_complete_for_the_names_of_cifar10_alone(tmp_path):
    for number, name in enumerate(cifar.CIFAR10_CLASSES):
        for split in ("train", "test"):
            picture(tmp_path / "other" / split / str(number) / "1.png")
            picture(tmp_path / "same" / split / (name.capitalize() if number % 2 else name) / "1.png")
    other, same = (load(tmp_path / root, "cifar10") for root in ("other", "same"))
    assert (other.coverage, same.coverage) == ("other", "complete")
    assert tuple(name.lower() for name in same.class_names) == cifar.CIFAR10_CLASSES


def test_imagenets_56_folders_make_the_ten_superclasses_of_table_7(tmp_path):
    for folder in ("train/n02123045", "train/n02088364", "val/n02123394", "val/n01440764"):
        picture(tmp_path / folder / "1.JPEG", size=(300, 200))
    dataset = load(tmp_path, "imagenet2012")
    assert dataset.class_names == (
        *("snake", "finch", "spider", "big cat", "beetle", "wading bird", "monkey", "fungus", "cat", "dog"),
    )
    assert [dataset.class_names[i] for i in dataset.trainable] == ["cat", "dog"]
    assert dataset.split(8).test_ids == ("val/n02123394/1.JPEG",)
    assert dataset.image_shape == (128, 128, 3)
    assert dataset.coverage == "partial"
    assert len(folders.read_superclasses(imagenet.SUPERCLASSES)) == 56


@pytest.fixture
def inspection(tmp_path):
    """Two categories of MVTec AD and one of the user's, with a mask for one defect."""
    for category in ("zzz", "wood", "bottle"):
        root = tmp_path / category
        for name in ("train/good/000", "test/good/000", "test/crack/000", "test/crack/001"):
            picture(root / f"{name}.png", 50, (40, 30))
        picture(root / "ground_truth" / "crack" / "000_mask.png", 255, (40, 30), "L")
    return tmp_path


def test_mvtec_ad_has_a_test_set_for_each_category(inspection):
    dataset = load(inspection, "mvtec_ad", image_size=16)
    assert dataset.class_names == ("bottle", "wood", "zzz")
    split = dataset.split(dataset.class_index("wood"))
    assert len(split.train_images) == 1
    assert split.test_labels == ("crack", "crack", "good")
    assert split.is_anomaly.tolist() == [True, True, False]
    assert split.test_ids[0] == "wood/test/crack/000.png"
    assert [mask and mask.name for mask in split.test_masks] == ["000_mask.png", None, None]
    assert pixels(split.test_images).shape == (3, 16, 16, 3)
    whole, nowhere = np.ones((16, 16), bool), np.zeros((16, 16), bool)
    np.testing.assert_equal(split.masks(np.arange(3)), [whole, None, nowhere])
    limited = dataset.split(0, limit_test=2)
    assert len(limited.test_images) == len(limited.test_labels) == len(limited.test_masks) == 2


def test_mvtec_ad_takes_the_only_folder_of_train_as_the_normal_one(inspection):
    category = inspection / "wood"
    (category / "train" / "good").rename(category / "train" / "OK")
    with pytest.raises(RequestError, match="test: no folder OK"):
        load(category, "mvtec_ad", image_size=16).split(0)
    (category / "test" / "good").rename(category / "test" / "OK")
    split = load(category, "mvtec_ad", image_size=16).split(0)
    assert (split.test_labels, split.is_anomaly.sum()) == (("OK", "crack", "crack"), 2)


@pytest.mark.parametrize("mask", ["000.png", "000_mask.bmp", "000_mask.PNG", "000.TIFF"])
def test_mvtec_ad_finds_masks_of_any_ending_and_leaves_out_images_of_no_kind(inspection, mask):
    category = inspection / "wood"
    (category / "ground_truth" / "crack" / "000_mask.png").unlink()
    picture(category / "ground_truth" / "crack" / mask, 255, (40, 30), "L")
    picture(category / "test" / "overview.png", 50)
    dataset = load(category, "mvtec_ad", image_size=16)
    split = dataset.split(0)
    assert split.test_labels == ("crack", "crack", "good")
    assert [found and found.name for found in split.test_masks] == [mask, None, None]
    assert list(dataset.unreadable) == [str(category / "test" / "overview.png")]


def test_mvtec_ad_says_that_no_mask_belongs_to_an_image(inspection):
    marks = inspection / "wood" / "ground_truth"
    (marks / "crack" / "000_mask.png").rename(marks / "crack" / "crack_of_000.png")
    dataset = load(inspection / "wood", "mvtec_ad", image_size=16)
    dataset.split(0)
    assert list(dataset.unreadable) == [str(marks)]
    picture(marks / "crack" / "000_mask.png", 255, (40, 30), "L")
    dataset.split(0)
    assert "masks of no test image: 1, such as crack" in dataset.unreadable[str(marks)]


@pytest.mark.parametrize("other", ["crack/000_mask.npy", None])
def test_mvtec_ad_says_that_there_is_no_mask(inspection, other):
    marks = inspection / "wood" / "ground_truth"
    (marks / "crack" / "000_mask.png").unlink()
    if other:
        (marks / other).touch()
    dataset = load(inspection / "wood", "mvtec_ad", image_size=16)
    dataset.split(0)
    assert dataset.unreadable == {str(marks): "holds no mask of a test image"}


def test_files_that_are_not_read_are_listed(tree, inspection):
    picture(tree / "train" / "stray.png", 50)
    (tree / "test" / "cat" / "2.heic").touch()
    assert list(load(tree).unreadable) == [str(tree / "test" / "cat"), str(tree / "train" / "stray.png")]
    train = inspection / "wood" / "train"
    picture(train / "stray.png", 50)
    picture(train / "more" / "0.png", 50)
    (train / "good" / "1.heic").touch()
    listed = load(inspection / "wood", "mvtec_ad", image_size=16).unreadable
    assert set(listed) == {str(train / name) for name in ("stray.png", "more", "good")}


def test_mvtec_ad_is_published_if_all_its_categories_are(inspection, tree):
    with pytest.raises(RequestError, match=r"<category>/train/good .* found test, train"):
        load(tree, "mvtec_ad")
    ours, published = load(inspection, "mvtec_ad"), load(inspection / "wood", "mvtec_ad")
    assert (ours.name, ours.coverage) == (inspection.name, "own")
    assert (published.name, published.coverage) == ("mvtec_ad", "complete") and published.class_names == (
        "wood",
    )
