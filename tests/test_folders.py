"""Folder trees as published, made small: what is found, in which order, and what is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from itae_jax import data
from itae_jax.config import DataConfig
from itae_jax.data import folders
from itae_jax.data import registry as catalogue
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


def test_a_tree_is_a_data_set(tree):
    dataset = load(tree)
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pets", ("cat", "dog"), (20, 20, 3))
    split = dataset.split(1)
    assert split.train_images.in_memory().array[:, 0, 0, 0].tolist() == [200, 201]
    assert split.test_ids == ("test/cat/0.png", "test/dog/0.png")
    assert split.is_anomaly.tolist() == [True, False]
    assert dataset.source == "folder pets: 4 + 2 png"


def test_val_stands_for_test(tree):
    (tree / "test").rename(tree / "val")
    assert load(tree).test_ids == ("val/cat/0.png", "val/dog/0.png")


def test_names_may_have_spaces_and_any_letters(tree):
    picture(tree / "train" / "großer Hund" / "ein Bild ü.JPG", 50)
    dataset = load(tree)
    assert "großer Hund" in dataset.class_names
    assert dataset.class_index("großer Hund") == dataset.class_names.index("großer Hund")


def test_a_class_seen_in_testing_alone_is_anomalous_always(tree):
    picture(tree / "test" / "wolf" / "0.png")
    dataset = load(tree)
    assert dataset.class_names == ("cat", "dog", "wolf")
    assert dataset.trainable == [0, 1]
    with pytest.raises(RequestError, match="no training image of 'wolf'"):
        dataset.class_index("wolf")


def test_grey_trees_have_one_channel_and_mixed_ones_three(tree):
    for path in tree.rglob("*.png"):
        picture(path, mode="L")
    assert load(tree).image_shape[2] == 1
    picture(tree / "train" / "cat" / "0.png")
    assert load(tree).image_shape[2] == 3
    assert load(tree, channels=1).image_shape[2] == 1


def test_several_sizes_need_one(tree):
    picture(tree / "train" / "cat" / "1.png", size=(30, 40))
    with pytest.raises(RequestError, match=r"1.png: is 40x30, others are 20x20; set data\.image_size"):
        load(tree).split(0).train_images.in_memory()
    assert load(tree, image_size=16).split(0).train_images.in_memory().array.shape == (2, 16, 16, 3)


def test_folders_are_joined_to_classes_by_a_file(tree, tmp_path):
    picture(tree / "train" / "wolf" / "0.png")
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("folder,class\ndog,canine\nwolf,canine\ncat,feline\n")
    dataset = load(tree, superclasses=str(mapping))
    assert dataset.class_names == ("canine", "feline")
    assert len(dataset.split(0).train_images) == 3
    assert "of 3 folders" not in dataset.source
    mapping.write_text(mapping.read_text() + "lion,feline\n")
    assert load(tree, superclasses=str(mapping)).source == f"{dataset.source}, 3 of 4 folders"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a,b\n1,2\n", "header folder,class"),
        ("folder,class\ncat,\n", "header folder,class"),
        ("folder,class\n../../secret,x\ncat,y\n", "leaves the directory"),
        ("folder,class\n/etc,x\ncat,y\n", "leaves the directory"),
        ("folder,class\nnothing,x\nneither,y\n", "no images in the folders nothing, neither"),
    ],
)
def test_a_wrong_mapping_is_refused(tree, tmp_path, text, message):
    mapping = tmp_path / "mapping.csv"
    if text is not None:
        mapping.write_text(text)
    with pytest.raises(RequestError, match=message):
        load(tree, superclasses=str(mapping))


def test_a_loop_of_links_ends_and_hidden_files_are_left_out(tree):
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
        (
            lambda root: os.rename(root / "test", root / "tst"),
            "expected folders train and test .* found train, tst",
        ),
        (lambda root: [path.unlink() for path in root.glob("train/*/*")], "no images in the folders cat, dog"),
        (lambda root: [path.unlink() for path in root.glob("test/*/*")], "no images in the folders cat, dog"),
        (lambda root: [path.write_text("x") for path in root.glob("train/*/*")], "no image there can be read"),
    ],
)
def test_a_tree_that_lacks_something_is_refused(tree, spoil, message):
    spoil(tree)
    with pytest.raises(RequestError, match=message):
        load(tree)


def test_a_root_has_to_be_given():
    with pytest.raises(RequestError, match=r"give it by --set data\.root=DIR"):
        load("")


def test_a_catalogued_set_is_read_from_a_tree_and_padded(tree):
    dataset = load(tree, "cifar10")
    assert (dataset.name, dataset.image_shape) == ("cifar10", (32, 32, 3))
    assert dataset.source.endswith(", 2 classes instead of 10")
    assert dataset.split(0).train_images.in_memory().array[0, 0, 0, 0] == 0


def test_ten_classes_are_cifar10s_by_their_names(tmp_path):
    """Or the paper's numbers would stand beside those of other images."""
    for number, name in enumerate(catalogue.CIFAR10):
        for split in ("train", "test"):
            picture(tmp_path / "other" / split / str(number) / "1.png")
            picture(tmp_path / "same" / split / (name.capitalize() if number % 2 else name) / "1.png")
    assert load(tmp_path / "other", "cifar10").source.endswith("10 png, classes of other names")
    same = load(tmp_path / "same", "cifar10")
    assert same.source.endswith("10 png")
    assert [name.lower() for name in same.class_names] == catalogue.CIFAR10


def test_imagenets_56_classes_make_the_ten_superclasses_of_table_7(tmp_path):
    for split, folder in (
        ("train", "n02123045"),
        ("train", "n02088364"),
        ("val", "n02123394"),
        ("val", "n01440764"),
    ):
        picture(tmp_path / split / folder / f"{folder}_1.JPEG", size=(300, 200))
    dataset = load(tmp_path, "imagenet2012")
    assert dataset.class_names == (
        *("snake", "finch", "spider", "big cat", "beetle", "wading bird", "monkey", "fungus", "cat", "dog"),
    )
    assert [dataset.class_names[i] for i in dataset.trainable] == ["cat", "dog"]
    assert dataset.test_ids == ("val/n02123394/n02123394_1.JPEG",)
    assert dataset.image_shape == (128, 128, 3)
    mapping = folders.read_superclasses(
        folders.Path(data.catalogue.__file__).parent / "imagenet_superclasses.csv"
    )
    assert len(mapping) == 56


@pytest.fixture
def inspection(tmp_path):
    """Two categories of MVTec AD and one of the user's, with a mask for one defect."""
    for category in ("zzz", "wood", "bottle"):
        root = tmp_path / category
        picture(root / "train" / "good" / "000.png", 50, (40, 30))
        picture(root / "test" / "good" / "000.png", 60, (40, 30))
        picture(root / "test" / "crack" / "000.png", 70, (40, 30))
        picture(root / "test" / "crack" / "001.png", 70, (40, 30))
        picture(root / "ground_truth" / "crack" / "000_mask.png", 255, (40, 30), "L")
    return tmp_path


def test_mvtec_ad_is_a_category_each_with_a_test_set_of_its_own(inspection):
    dataset = load(inspection, "mvtec_ad", image_size=16)
    assert dataset.class_names == ("bottle", "wood", "zzz")
    split = dataset.split(dataset.class_index("wood"))
    assert len(split.train_images) == 1
    assert split.test_labels == ("crack", "crack", "good")
    assert split.is_anomaly.tolist() == [True, True, False]
    assert split.test_ids[0] == "wood/test/crack/000.png"
    assert [mask and mask.name for mask in split.test_masks] == ["000_mask.png", None, None]
    assert split.test_images.in_memory().array.shape == (3, 16, 16, 3)


def test_one_category_may_be_named_itself(inspection):
    assert load(inspection / "wood", "mvtec_ad").class_names == ("wood",)


def test_mvtec_ad_without_a_category_is_refused(tree):
    with pytest.raises(RequestError, match=r"expected folders <category>/train/good in it, found test, train"):
        load(tree, "mvtec_ad")


def test_limits_apply_to_categories_too(inspection):
    split = load(inspection, "mvtec_ad").split(0, limit_test=2)
    assert len(split.test_images) == len(split.test_labels) == len(split.test_masks) == 2


def test_masks_and_images_have_one_geometry(inspection):
    from itae_jax.data.reader import Reader

    mask = inspection / "wood" / "ground_truth" / "crack" / "000_mask.png"
    assert np.all(Reader(16, 3, "stretch").read_mask(mask))
    assert Reader(16, 3, "letterbox").read_mask(mask).mean() == pytest.approx(12 / 16)
