"""Check that notebooks are fit to be committed: executed in order, clean, and the same anywhere.

Usage: python tools/hygiene.py [NOTEBOOK ...]

Without a name it checks all of notebooks/. It prints what is wrong, cell by cell, and exits
with 1 if anything is.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parent.parent
# Somebody's own folders, on any system.
ABSOLUTE_PATH = re.compile(r"(?<![\w.])/(home|Users|root|tmp|work|opt|usr|content)/|[A-Z]:\\")

WIDGET = "application/vnd.jupyter.widget-view+json"
SHORTEST_ALT = 30  # characters: what to see takes a sentence


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what has to be fixed before this notebook is committed, a line for each fault."""
    found = []
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel has to be python3, which every machine has")
    if "widgets" in notebook.metadata:
        found.append("its metadata hold the state of widgets")
    code_count = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            code_count += 1
            if cell.execution_count != code_count:
                found.append(f"{cell.id}: executed as {cell.execution_count}, not as {code_count}")
            found += [f"{cell.id}: {fault}" for fault in faults_of_outputs(cell)]
        elif cell.cell_type == "markdown" and re.search(r"^\s*<!--", cell.source, re.MULTILINE):
            found.append(f"{cell.id}: Markdown is not rendered after a line that starts with <!--")
        if ABSOLUTE_PATH.search(cell.source):
            found.append(f"{cell.id}: its source names a folder that only one machine has")
    return found


def faults_of_outputs(cell: nbformat.NotebookNode) -> Iterator[str]:
    """Yield what is wrong with the outputs that a code cell has saved."""
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"it stopped with {output.ename}"
        if output.get("name") == "stderr":
            yield "it wrote to stderr: " + output.text.strip()[:60]
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        if "image/png" in output.get("data", {}) and len(alt) < SHORTEST_ALT:
            yield "its picture has no alternative text; the cell's metadata hold it as alt"
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        if ABSOLUTE_PATH.search(text):
            yield "its output names a folder that only one machine has"
        if "\r" in text:
            yield "it saved a progress bar frame by frame"
        if WIDGET in output.get("data", {}):
            yield "it saved a widget, which shows nothing without its kernel"


def main() -> int:
    """Check the notebooks that the command line names; tell what is wrong."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted(PROJECT.glob("notebooks/*.ipynb"))
    found = [
        f"{path.name}: {fault}"
        for path in paths
        for fault in faults(nbformat.read(path, as_version=4))
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
