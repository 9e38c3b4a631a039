"""The HTML pages: readable in a classroom without internet."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from page import page_of

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
FETCHED = re.compile(
    r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?https?:|import\(.?https?:|url\(.?https?:"""
)


def test_formulas_become_what_browsers_draw_themselves():
    text = "# A title, $x^2$\n\nA block\n\n$$\\frac{a}{b}$$\n\n"
    text += "and $\\sqrt{n}$ within, **bold** around."
    text += "\n\n`$A:$B`, ``$C:$D``, \\$7 and \\$8 cost $5 and $6.\n\n    $E $F\n"
    cells = [new_markdown_cell(text), new_code_cell("price = '$5 and $6'")]
    notebook = new_notebook(cells=cells)
    page = page_of(notebook, "a title")
    assert page.count("<math") == 3
    assert "<mfrac>" in page and "<msqrt>" in page and "<strong>bold</strong>" in page
    assert page.count("$5 and $6") == 2  # code and prices are left alone
    assert all(f"<code>{code}" in page for code in ("$A:$B", "$C:$D", "$E $F"))
    assert "$7 and $8" in page
    assert "<title>a title</title>" in page
    assert notebook.cells[0].source == text  # and so is the notebook


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_asks_nobody_for_anything(path):
    notebook = nbformat.read(path, as_version=4)
    page = page_of(notebook, path.stem)
    assert not FETCHED.search(page)
    prose = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert page.count("<math") == prose.count("$$") // 2 + prose.replace("$$", "").count("$") // 2
