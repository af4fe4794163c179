"""The book's Sphinx extension: links to files that are not pages, figures without text, and
docstrings.
"""

import ast
import posixpath
import re

from docutils import nodes
from pages import ROOT
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

LOG = logging.getLogger(__name__)


def repository_link(address: str, page: str, target: str) -> str | None:
    """Return the address, in the repository, of the file or folder that a page's relative link
    leads to.

    "" if the repository has no address yet, None if `target` is not a file or folder there.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0]))
    if not target or path.startswith("..") or not (ROOT / path).exists():
        return None
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{address}/{kind}/main/{path}" if address else ""


def send_links(app: Sphinx, doctree: nodes.document) -> None:
    """Point links to files and folders that are not pages to the repository, or make them plain
    text.
    """
    page, pages = app.env.docname, app.env.found_docs
    for link in [
        *doctree.findall(addnodes.pending_xref),
        *doctree.findall(addnodes.download_reference),
    ]:
        target = link["reftarget"]
        if link.get("refdomain") in ("py", "std") or link.get("reftype") not in (
            "myst",
            None,
            "download",
        ):
            continue
        where = repository_link(app.config.repository_address, page, target)
        if where is None or posixpath.splitext(where)[0] in pages:
            continue
        shown = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if target.endswith(".py") and shown.removesuffix(".py") in pages:  # it shows the file
            where = app.builder.get_relative_uri(page, shown.removesuffix(".py"))
        new = nodes.reference("", "", refuri=where) if where else nodes.inline()
        new += (
            link.children[0].children
            if isinstance(link.children[0], nodes.inline)
            else link.children
        )
        link.replace_self(new)


def ask_for_text(app: Sphinx, doctree: nodes.document) -> None:
    """Warn, which fails the build, about a figure that lacks a text for those who cannot see it."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            LOG.warning(
                "a figure without a text: write it in the cell's metadata, mystnb.image.alt, "
                "or between ![ and ]",
                location=image,
            )


def as_code(
    app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]
) -> None:
    """Turn an indented block of a docstring, such as a command, into a block of code."""
    for at in range(len(lines) - 1, 0, -1):
        if lines[at].startswith("    ") and not lines[at - 1].strip():
            lines[at:at] = ["::", ""]


def skipped(
    app: Sphinx, what: str, name: str, found: object, skip: bool, options: object
) -> bool | None:
    """Leave out the fields of a NamedTuple, which have no docstring of their own."""
    return (
        True
        if (getattr(found, "__doc__", None) or "").startswith("Alias for field number")
        else None
    )


class WithoutChecks(ast.NodeTransformer):
    """Replaces `Annotated[int, …]`, which is how pydantic's checks are written, by `int`."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        return node.slice.elts[0] if ast.unparse(node.value).endswith("Annotated") else node


def readable(
    app: Sphinx, what: str, name: str, found: object, options: object, *signature_of: str
) -> tuple | None:
    """Return signature and return type, without pydantic's checks and with `...` for <objects>."""
    signature, returned = signature_of
    if not signature or not re.search("<|Annotated", signature):
        return None
    signature = re.sub(r"<[^<>]*>", "...", signature)
    tree = ast.parse(f"def f{signature}: ...")
    return f"({ast.unparse(WithoutChecks().visit(tree).body[0].args)})", returned


def setup(app: Sphinx) -> dict:
    """Connect the functions above to Sphinx, which calls this."""
    app.add_config_value("repository_address", "", "env")
    app.connect("doctree-read", send_links)
    app.connect("doctree-read", ask_for_text)
    app.connect("autodoc-process-docstring", as_code)
    app.connect("autodoc-skip-member", skipped)
    app.connect("autodoc-process-signature", readable)
    return {"parallel_read_safe": True}
