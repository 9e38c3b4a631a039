"""Make an HTML page of an executed notebook that needs nothing from the internet."""

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

# nbconvert's page asks a server for MathJax, require.js and mermaid before it shows.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""
# Said of every formula; headings, which go through an XML parser, would come out with it.
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'


class Renderer(IPythonRenderer):
    """Writes LaTeX as MathML, which browsers draw themselves."""

    def inline_math(self, body):
        if body != body.strip():  # two prices, not a formula
            return f"${body}$"
        return convert(body).replace(NAMESPACE, "")

    def block_math(self, body):
        return convert(body.strip(), display="block").replace(NAMESPACE, "")


class OfflineExporter(HTMLExporter):
    raw_template = TEMPLATE

    @pass_context
    def markdown2html(self, context, source):
        renderer = Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            anchor_link_text=self.anchor_link_text,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def page_of(notebook, title):
    """Return the notebook as one HTML page, formulas and pictures within."""
    page, _ = OfflineExporter().from_notebook_node(notebook, {"metadata": {"name": title}})
    return page
