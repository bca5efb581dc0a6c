"""Draws a set of scratched textures for folders.py: python experiments/scripts/scratches.py FOLDER

150 normal images in train/good, 60 in test/good and 60 in test/scratch: grey textures of 512x512 pixels.
The anomalous ones have a straight scratch 4 pixels wide and 30 to 100 long, 25 to 50 grey levels brighter or
darker.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

SIDE = 512


def texture(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise at two scales."""
    fine, coarse = (gaussian_filter(rng.standard_normal((SIDE, SIDE)), deviation) for deviation in (1.5, 60))
    return 128 + 12 * fine / fine.std() + 6 * coarse / coarse.std()


def scratched(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mask = Image.new("L", (SIDE, SIDE))
    middle, length, angle = rng.uniform(80, 432, 2), rng.uniform(30, 100), rng.uniform(0, np.pi)
    half = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ImageDraw.Draw(mask).line([*(middle - half), *(middle + half)], fill=255, width=4)
    level = rng.choice([-1, 1]) * rng.uniform(25, 50)
    return image + level * np.asarray(mask) / 255


def main() -> None:
    root, rng = Path(sys.argv[1]), np.random.default_rng(0)
    for place, count in (("train/good", 150), ("test/good", 60), ("test/scratch", 60)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            image = texture(rng)
            if place == "test/scratch":
                image = scratched(image, rng)
            pixels = image.clip(0, 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(root / place / f"{number:03}.png")


if __name__ == "__main__":
    main()
