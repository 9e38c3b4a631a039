"""How Sphinx makes the book; tools/book.py lays out the pages for it, and runs it."""

import importlib.metadata
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

PROJECT = Path(__file__).resolve().parent.parent
MATHJAX = "sphinx-mathjax-offline"  # only one of its files: all of them are 24 MB

project = "Train your first CNN"
language = "en"
html_title = project
exclude_patterns = ["notebooks/README.md"]  # the front page includes it
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]

# The notebooks are shown as they were executed.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_content_items": [],
    "logo": {"text": project},
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_static_path = [
    "_static",
    str(
        importlib.metadata.distribution(MATHJAX).locate_file(
            f"{MATHJAX}/static/mathjax/tex-svg-full.js"
        )
    ),
]
html_css_files = ["book.css"]
mathjax_path = "tex-svg-full.js"  # draws formulas with outlines, so it needs no fonts
html_copy_source = False
html_use_index = False
copybutton_selector = "div.highlight:not(.cell_output *) pre"
html_show_search_summary = False  # it would fetch pages, which browsers forbid on file://

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
default_role = "code"  # docstrings write `name`
python_maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_rtype = False

# -n warns of every name that isn't in the book, and of these we can't look up any without internet.
OTHERS = "PIL|collections|matplotlib|numpy|os|pathlib|torch|mnist_helpers.machine.progress"
nitpick_ignore_regex = [("py:class", rf"({OTHERS})\..*")]


def unlink_what_is_no_page(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links to the README to the page on installing; make text of those to other files."""
    folder = (PROJECT / app.env.docname).parent
    for link in list(doctree.findall(pending_xref)):
        if link["reftype"] == "myst" and link["refdomain"] is None:
            if link["reftarget"].endswith("README.md"):
                link.update_all_atts(
                    {"refdomain": "doc", "reftarget": "docs/installing"}, replace=True
                )
                link["reftargetid"] = None
            elif (folder / link["reftarget"]).exists():
                link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Register the above, as Sphinx asks of every configuration that has such a function."""
    app.connect("doctree-read", unlink_what_is_no_page)
