"""Save the picture that opens each notebook, from the outputs of the notebooks themselves.

Usage: python tools/covers.py [--check]

`make notebooks` runs it. A file and not an attachment of the cell: code hosts show files.
With --check it only says which pictures differ from the outputs.
"""

import base64
import sys
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
# By notebook, whose cell draws it: notebook 01 opens with what 04 shows in the end.
COVERS = {
    "01": ("04", "answers"),
    "02": ("02", "maps"),
    "03": ("03", "before-after"),
    "04": ("04", "move"),
    "05": ("05", "cam-look"),
    "06": ("06", "strip"),
    "07": ("07", "schedule"),
}


def cover_of(number: str) -> bytes:
    """Return the picture that opens a notebook, as a PNG."""
    source, name = COVERS[number]
    (path,) = NOTEBOOKS.glob(f"{source}_*.ipynb")
    cells = {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}
    pictures = [output.get("data", {}) for output in cells[name].outputs]
    (picture,) = [data["image/png"] for data in pictures if "image/png" in data]
    return base64.b64decode(picture)


def main() -> int:
    """Write all pictures, or tell which ones differ."""
    old = []
    for number in COVERS:
        page = NOTEBOOKS / "images" / f"{number}.png"
        picture = cover_of(number)
        if not page.is_file() or page.read_bytes() != picture:
            old.append(page)
            if "--check" not in sys.argv:
                page.parent.mkdir(exist_ok=True)
                page.write_bytes(picture)
    print("\n".join(f"{page.name} has changed" for page in old), end="\n" if old else "")
    return 1 if old and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
