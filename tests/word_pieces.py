"""A small vocabulary of word pieces, for folders of published models that came of BERT."""

from pathlib import Path

from tests.published import WORDS

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "?", ".")


def write(folder: Path) -> None:
    """Writes the vocabulary into a folder."""
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
