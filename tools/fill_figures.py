"""Fill measured figures into the prose, so that nobody has to type them.

Usage: python tools/fill_figures.py [--check]

In the pages and in the notebooks' prose a figure stands between two markers,
`<!--figure NAME-->` and `<!--/figure-->`. This script writes between them what
`results/figures.json` holds under NAME; with --check it only says what differs.
Badges and links to Colab are filled in like figures, once pyproject.toml has the
repository's address: `[project.urls]`, `Repository = "https://github.com/OWNER/NAME"`.
"""

import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
READMES = ("README.md", "notebooks/README.md", "model_checkpoints/README.md")
PAGES = [*(PROJECT / "docs").glob("*.md"), *(PROJECT / name for name in READMES)]
RESULTS = PROJECT / "results" / "figures.json"
FIGURE = re.compile(r"(<!--figure ([\w.]+)-->)(.*?)(<!--/figure-->)", re.DOTALL)


def filled(text: str, figures: Mapping[str, str]) -> str:
    """Return the text with every figure as `figures` has it; an unknown name is an error."""
    return FIGURE.sub(lambda match: match[1] + figures[match[2]] + match[4], text)


def address() -> str:
    """Return the repository's address from pyproject.toml, or nothing as long as it has none."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", "")).rstrip("/")


def links(url: str) -> dict[str, str]:
    """Return what the pages say where the repository is at `url`, by name."""
    names = [path.name for path in NOTEBOOKS]
    if not url:
        clone = "get this repository there as the folder `tutorial`"
        return {"badges": "", "colab.clone": clone} | {f"colab.{name[:2]}": "" for name in names}
    found = {"colab.clone": f"run `!git clone {url} tutorial`"}
    found["badges"] = f"[![tests]({url}/actions/workflows/tests.yml/badge.svg)]({url}/actions)"
    colab = url.replace("https://github.com/", "https://colab.research.google.com/github/")
    for name in names:
        found[f"colab.{name[:2]}"] = f" ([Colab]({colab}/blob/main/notebooks/{name}))"
    return found


def fill_page(path: Path, figures: Mapping[str, str], check: bool) -> bool:
    """Fill a Markdown page; tell whether it was right already."""
    text = path.read_text("utf-8")
    new = filled(text, figures)
    if new != text and not check:
        path.write_text(new, "utf-8")
    return new == text


def fill_notebook(path: Path, figures: Mapping[str, str], check: bool) -> bool:
    """Fill the prose of a notebook; tell whether it was right already."""
    notebook = nbformat.read(path, as_version=4)
    right = True
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            new = filled(cell.source, figures)
            right = right and new == cell.source
            cell.source = new
    if not right and not check:
        nbformat.write(notebook, path)
    return right


def main(arguments: Sequence[str] | None = None) -> int:
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    figures = json.loads(RESULTS.read_text("utf-8")) | links(address())
    wrong = [path for path in PAGES if not fill_page(path, figures, check)]
    wrong += [path for path in NOTEBOOKS if not fill_notebook(path, figures, check)]
    for path in wrong:
        print(f"{path.name}: {'differs from' if check else 'filled from'} results/figures.json")
    return 1 if check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
