"""Pictures on the results page: bars by class beside the paper's, drawn again when their numbers change."""

import dataclasses
import hashlib
import inspect
import io
import re
from pathlib import Path

from itae_jax.files import write_bytes
from itae_jax.report import columns, comparisons, pictures, tables
from itae_jax.runs.read import RunResults

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
_TABLE, _LEAST_CLASSES = "table1", 4
_MARK = "Source"  # of the PNG's own texts: the digest of what is shown


@dataclasses.dataclass(frozen=True)
class Picture:
    """Bars of all columns of a table.

    Attributes:
      together: the columns.
      title: of the table; names the file, too.
    """

    together: list[RunResults]
    title: str

    @property
    def path(self) -> Path:
        return IMAGES / f"{re.sub(r'[^a-z0-9]+', '_', self.title.lower())}.png"

    @property
    def digest(self) -> str:
        """Of everything that the picture shows, and of how it is drawn."""
        drawing = inspect.getsource(comparisons.bars_by_class)
        return hashlib.sha256(repr((self._bars(), drawing)).encode()).hexdigest()

    def _bars(self) -> tuple:
        (of_dataset,) = columns.by_dataset(self.together)
        return pictures.bars(of_dataset)

    def lines(self) -> list[str]:
        """The picture and its caption in Markdown."""
        *_, caption = self._bars()
        name = tables.in_markdown(self.title)
        return [f"![AUROC by class, {name}](images/{self.path.name})", "", f"*{caption}*", ""]

    def is_drawn(self) -> bool:
        """Whether the file is there and shows these numbers."""
        from PIL import Image

        if not self.path.exists():
            return False
        with Image.open(self.path) as image:
            return image.info.get(_MARK) == self.digest

    def draw(self) -> None:
        """Writes the file."""
        groups, methods, _ = self._bars()
        content = io.BytesIO()
        comparisons.bars_by_class(groups, methods).savefig(
            content, dpi=120, format="png", metadata={_MARK: self.digest}
        )
        write_bytes(self.path, content.getvalue())


def of(together: list[RunResults], title: str) -> Picture | None:
    """The picture of a table; None of one that is of few classes, or not Table 1's."""
    classes = {row["normal_class"] for found in together for row in found.measured}
    is_shown = together[0].experiment.paper_table == _TABLE and len(classes) >= _LEAST_CLASSES
    return Picture(together, title) if is_shown else None


def left_over(drawn: list[Picture]) -> list[Path]:
    """The files of tables that are no more."""
    return sorted(set(IMAGES.glob(f"{_TABLE}_*.png")) - {picture.path for picture in drawn})
