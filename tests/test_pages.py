"""The Markdown pages, rendered as a code host renders them."""

import re

import pytest
from fill_figures import PAGES, PROJECT, filled, links
from markdown_it import MarkdownIt

MORE = ["CONTRIBUTING.md", "data/README.md", "model_checkpoints/README.md"]
ALL = [*(p for p in PAGES if p.name != "index.md"), *(PROJECT / name for name in MORE)]
MARKER = re.compile(r"<!--(figure [\w.]+|/figure)-->")


def faults(text):
    """Return what a reader of the rendered page would stumble over."""
    found = []
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        if block.type == "html_block":  # it ends the paragraph that it stands in
            found.append(f"an HTML block: {block.content[:40]}")
        for token in block.children or []:
            if token.type == "html_inline" and not MARKER.fullmatch(token.content):
                found.append(f"HTML: {token.content}")
            if token.type == "code_inline" and re.search("<!--figure (?!NAME)", token.content):
                found.append(f"a marker inside code: {token.content}")
            if token.type == "text" and re.search(r"\*\*|<!--|\]\(|^\|.*\|$", token.content):
                found.append(f"Markdown that stays as it is: {token.content}")
    return found


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_a_page_is_rendered_whole(page):
    assert faults(page.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["<!--figure a-->1<!--/figure--> seeds", "a `<!--figure a-->1<!--/figure-->`", "a **b ** c",
     "| a | b |\n| 1 | 2 |", "a <b>c</b>"],
)  # fmt: skip
def test_a_spoiled_page_is_noticed(text):
    assert faults(text)


def test_links_in_the_pages_lead_somewhere():
    for page in ALL:
        for link, anchor in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", page.read_text("utf-8")):
            if "://" in link:
                continue
            target = page.parent / link
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                heads = re.findall(r"^#+ (.*)", target.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{page.name}: {link}#{anchor}"


def test_until_an_address_is_known_no_page_speaks_of_one():
    empty = links("")
    assert empty["badges"] == "" and set(empty) == set(links("https://github.com/a/b"))
    assert all("ADDRESS" not in page.read_text("utf-8") for page in ALL)


def test_with_an_address_the_badge_and_the_colab_links_lead_there():
    figures = links("https://github.com/a/b")
    text = filled("1<!--figure colab.03--><!--/figure-->", figures)
    assert (
        "https://colab.research.google.com/github/a/b/blob/main/notebooks/"
        "03_train_with_progress_bars.ipynb" in text
    )
    assert "https://github.com/a/b/actions" in figures["badges"]
    assert "git clone https://github.com/a/b tutorial" in figures["colab.clone"]
    assert faults(f"# Title\n\nWords. {text} {figures['badges']}") == []
