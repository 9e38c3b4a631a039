"""Make the book: the executed notebooks and the package's API, as one site that needs no server.

Usage: python tools/book.py [--check-links]

This builds build/book from the notebooks as they are committed, and executes nothing. What
Sphinx warns of is an error here. With --check-links it asks instead whether the pages on the
internet that the book links to are still there.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = PROJECT / "notebooks"


class BookError(Exception):
    """The book could not be built; the message says why."""


def build_book(notebooks: Sequence[Path], target: Path, *, strict: bool = False) -> Path:
    """Build the book in the folder `target`, and return the page to open.

    These executed notebooks take the place of the committed ones. If something goes wrong, with
    `strict` even a broken link, it raises BookError, and an older book stays as it is.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="book-", dir=target.parent) as folder:
        source, site = Path(folder, "source"), Path(folder, "site")
        lay_out(notebooks, source)
        run_sphinx(source, site, ["--fail-on-warning", "--nitpicky"] if strict else [])
        shutil.rmtree(target, ignore_errors=True)
        site.rename(target)
    return target / "index.html"


def lay_out(notebooks: Sequence[Path], source: Path) -> None:
    """Copy the pages to where they link to each other, as in the project, index.md on top."""
    shutil.copytree(PROJECT / "docs", source / "docs")
    (source / "docs" / "index.md").rename(source / "index.md")
    shutil.copytree(NOTEBOOKS / "images", source / "notebooks" / "images")
    shutil.copy(NOTEBOOKS / "README.md", source / "notebooks")  # which index.md includes
    pages = {path.name: path for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    for path in (pages | {path.name: path for path in notebooks}).values():
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if "alt" in cell.metadata:  # where myst-nb looks for it
                cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
        nbformat.write(notebook, source / "notebooks" / path.name)


def run_sphinx(source: Path, site: Path, options: Sequence[str]) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--no-color", *options]
    folders = ["--conf-dir", str(PROJECT / "docs"), "--doctree-dir", f"{site}-pages"]
    done = subprocess.run(
        [*command, *folders, str(source), str(site)], capture_output=True, text=True, cwd=PROJECT
    )
    if done.returncode != 0:
        said = done.stderr.replace(f"{source}/", "").strip()
        raise BookError(f"Sphinx could not make the book:\n{said}")


def check_links() -> None:
    """Ask for every page on the internet that the book links to; raises BookError."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out([], Path(folder, "source"))
        run_sphinx(Path(folder, "source"), Path(folder, "links"), ["--builder", "linkcheck"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the book from the committed notebooks.")
    parser.add_argument("--check-links", action="store_true", help="look up its external links")
    if parser.parse_args().check_links:
        check_links()
    else:
        print(f"Open {build_book([], PROJECT / 'build' / 'book', strict=True)} in a browser.")


if __name__ == "__main__":
    try:
        main()
    except BookError as error:
        sys.exit(f"book: {error}")
