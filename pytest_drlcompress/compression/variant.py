"""What is judged of a policy: a recipe, or an ONNX file that some toolchain made."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_drlcompress.compression.recipe import Recipe, parse_recipe

_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Variant:
    """A variant as it was asked for: ``"l2@30+ptsq"`` or ``"models/small.onnx"``."""

    text: str

    @property
    def file(self) -> Path | None:
        """The ONNX file; ``None`` for a recipe."""
        return Path(self.text) if self.text.endswith(_SUFFIX) else None

    @cached_property
    def recipe(self) -> Recipe | None:
        """How it is made; ``None`` for a file.

        Raises:
            RecipeError: the text is no recipe.
        """
        return None if self.file is not None else parse_recipe(self.text)

    @property
    def id(self) -> str:
        """Its name in verdicts, tables and records: the text, or the stem of the file."""
        return self.text if self.file is None else self.file.stem
