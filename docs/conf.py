"""How Sphinx makes the book; tools/book.py lays out the pages for it, and runs it."""

import importlib.metadata
import os
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.nodes import get_node_source

PROJECT = Path(__file__).resolve().parent.parent
MATHJAX = "sphinx-mathjax-offline"  # only one of its files: all of them are 24 MB

project = "Train your first CNN"
language = "en"
html_title = "MNIST in PyTorch"  # in a tab, after each page's own title
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
html_js_files = ["menus.js"]
mathjax_path = "tex-svg-full.js"  # draws formulas with outlines, so it needs no fonts
html_copy_source = False
html_use_index = False
copybutton_selector = "div.highlight:not(.cell_output *) pre"
html_show_search_summary = False  # it would fetch pages, which browsers forbid on file://

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "code"  # docstrings write `name`
napoleon_google_docstring = False
napoleon_use_rtype = False

# -n warns of every name that isn't in the book, and of these we can't look up any without internet.
OTHERS = "PIL|collections|matplotlib|numpy|os|pathlib|torch|mnist_helpers.machine.progress"
nitpick_ignore_regex = [("py:class", rf"({OTHERS})\..*")]

# Where a link to a README leads in the book.
READMES = {"README.md": "index", "notebooks/README.md": "index"}


def lead_links(app: Sphinx, doctree: nodes.document) -> None:
    """Follow links from the file they are written in, which the front page may include.

    Those to what is no page become text.
    """
    for link in list(doctree.findall(pending_xref)):
        if link["reftype"] == "myst" and link["refdomain"] == "doc":
            link["reftarget"] = READMES.get(f"{link['reftarget']}.md", link["reftarget"])
        elif link["reftype"] == "myst" and link["refdomain"] is None:
            path, _, anchor = link["reftarget"].partition("#")
            target = os.path.relpath(Path(get_node_source(link) or "").parent / path, app.srcdir)
            page = READMES.get(target) or app.env.path2doc(target)
            if page in app.env.found_docs:
                link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", page, anchor
            elif (PROJECT / target).exists():
                link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Register the above, as Sphinx asks of every configuration that has such a function."""
    app.connect("doctree-read", lead_links)
