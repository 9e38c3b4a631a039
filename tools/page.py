"""Turn an executed notebook into an HTML page that needs nothing from the internet."""

from pathlib import Path
from typing import Any

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"  # pictures go into the page
# nbconvert's own page loads MathJax, require.js and mermaid from a server before it shows.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block data_png scoped -%}
{%- set alt = output | get_metadata("alt", "image/png") or "a figure" -%}
{{ super() | replace("<img ", '<img alt="' ~ (alt | escape_html) ~ '" ') }}
{%- endblock -%}
"""
# latex2mathml puts it into every formula; headings, which go through an XML parser, would show it.
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'


class Renderer(IPythonRenderer):
    """Writes LaTeX as MathML, which browsers draw themselves."""

    def inline_math(self, body: str) -> str:
        if body != body.strip():  # two prices, not a formula
            return f"${body}$"
        return str(convert(body)).replace(NAMESPACE, "")

    def block_math(self, body: str) -> str:
        return str(convert(body.strip(), display="block")).replace(NAMESPACE, "")


class OfflineExporter(HTMLExporter):
    raw_template = TEMPLATE

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        renderer = Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=True,
            path=str(NOTEBOOKS),
            anchor_link_text=self.anchor_link_text,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def page_of(notebook: Any, title: str) -> str:
    """Return the notebook as one HTML page that holds its formulas and pictures."""
    exporter: Any = OfflineExporter  # which is not typed
    page, _ = exporter().from_notebook_node(notebook, {"metadata": {"name": title}})
    return str(page)
