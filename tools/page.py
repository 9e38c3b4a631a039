"""Make an HTML page of an executed notebook that needs nothing from the internet."""

import re

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor

FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$",
    re.DOTALL,
)

# nbconvert's page asks a server for MathJax, require.js and mermaid before it shows.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


class FormulasAsMathML(Preprocessor):
    """Replace LaTeX in prose by MathML, which browsers draw themselves."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "markdown":
            cell.source = FORMULA.sub(as_mathml, cell.source)
        return cell, resources


def as_mathml(match):
    if match["code"] is not None:
        return match["code"]
    is_block = match["block"] is not None
    latex = match["block"] if is_block else match["inline"]
    return convert(latex.strip(), display="block" if is_block else "inline")


def page_of(notebook, title):
    """Return the notebook as one HTML page, formulas and pictures within."""
    exporter = HTMLExporter(raw_template=TEMPLATE, preprocessors=[FormulasAsMathML])
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return page
