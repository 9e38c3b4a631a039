"""The book: it builds without a warning, leads nowhere wrong, and needs no internet."""

import re
from pathlib import Path
from urllib.parse import unquote

import book
import nbformat
import pytest
from book import PROJECT, BookError, build_book, lay_out
from bs4 import BeautifulSoup

import mnist_helpers

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
SOURCES = [*NOTEBOOKS, *(PROJECT / "docs").rglob("*.md")]
ALL = {path.relative_to(PROJECT).with_suffix(".html").as_posix() for path in SOURCES}
ALL.remove("docs/index.html")  # which is on top


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_book([], tmp_path_factory.mktemp("build") / "book", strict=True).parent


@pytest.fixture(scope="module")
def pages(site):
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in site.rglob("*.html")
        if "_static" not in path.parts  # the theme keeps its templates there
    }


@pytest.mark.slow
def test_the_front_page_leads_to_every_notebook_and_every_page_of_docs(pages):
    assert {link["href"] for link in pages["index.html"].select("nav.bd-links a")} >= ALL
    assert set(pages) == ALL | {"index.html", "search.html"}


@pytest.mark.slow
def test_every_link_inside_the_book_leads_somewhere(site, pages):
    anchors = {name: {tag["id"] for tag in page.select("[id]")} for name, page in pages.items()}
    followed = 0
    for name, page in pages.items():
        for link in page.select("a[href]"):
            if "://" in link["href"] or link["href"].startswith("mailto:"):
                continue
            path, _, anchor = unquote(link["href"]).partition("#")
            target = (site / name).parent.joinpath(path).resolve() if path else site / name
            assert target.is_file(), f"{name}: {link}"
            there = target.relative_to(site).as_posix()
            assert not anchor or anchor in anchors[there], f"{name}: {link}"
            followed += 1
    assert followed > 500


@pytest.mark.slow
def test_nothing_is_fetched_from_the_internet(site, pages):
    for name, page in pages.items():
        for tag in page.select("link, script, img, source, iframe, video, audio, object"):
            for attribute in ("href", "src", "srcset", "data"):
                assert not re.match(r"\s*(https?:)?//", tag.get(attribute, "")), f"{name}: {tag}"
    for style in site.rglob("*.css"):
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", style.read_text("utf-8"))


@pytest.mark.slow
def test_every_picture_is_described(pages):
    pictures = [(name, tag) for name, page in pages.items() for tag in page.select("article img")]
    assert len(pictures) > 60
    assert [tag for tag in pictures if len(tag[1].get("alt", "")) < 20] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solutions_are_folded_with_their_code(path, pages):
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if "<details>" in c.source]
    written = [part for cell in cells for part in re.findall("<details>.*?</details>", cell, re.S)]
    shown = pages[f"notebooks/{path.stem}.html"].select("details:not(.hide)")  # not folded code
    assert len(shown) == len(written) > 0
    for source, details in zip(written, shown, strict=True):
        assert not details.has_attr("open") and details.summary.text
        fences = re.findall(r"```python\n(.*?)\n```", source, re.S)
        assert [block.text.strip("\n") for block in details.select("pre")] == fences


@pytest.mark.slow
def test_every_public_name_is_described(pages):
    described = {
        tag["id"].rpartition(".")[2]
        for page in pages.values()
        for tag in page.select("dt.sig-object[id]")
    }
    assert set(mnist_helpers.__all__) - described == set()


@pytest.mark.slow
def test_a_spoiled_page_is_an_error_and_the_older_book_stays(tmp_path, monkeypatch):
    def lay_out(notebooks: object, source: Path) -> None:
        source.mkdir()
        faults = ["[text](gone.md)", "[text](#nowhere)", "![text](lost.png)", "### Too deep"]
        (source / "index.md").write_text("\n\n".join(["# A title", *faults]))

    monkeypatch.setattr(book, "lay_out", lay_out)
    older = tmp_path / "book" / "index.html"
    older.parent.mkdir()
    older.write_text("older")
    with pytest.raises(BookError, match=r"^Sphinx could not make the book:\nindex\.md:") as error:
        build_book([], older.parent, strict=True)
    assert all(
        words in str(error.value) for words in ("gone.md", "nowhere", "lost.png", "H1 to H3")
    )
    assert older.read_text() == "older"
    assert list(tmp_path.iterdir()) == [older.parent]


def test_an_executed_notebook_takes_the_place_of_the_committed_one(tmp_path):
    executed = tmp_path / NOTEBOOKS[0].name
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    notebook.cells[0].source = "# Executed here"
    nbformat.write(notebook, executed)
    lay_out([executed], tmp_path / "source")
    laid_out = tmp_path / "source" / "notebooks"
    assert (
        nbformat.read(laid_out / executed.name, as_version=4).cells[0].source == "# Executed here"
    )
    assert {path.name for path in laid_out.glob("*.ipynb")} == {path.name for path in NOTEBOOKS}
