"""Sphinx's settings for the book; `build.py` runs Sphinx with them, within its own process."""

from importlib.util import find_spec
from pathlib import Path

from pages import repository

project = html_title = "Cross-Modal Adapter"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "hook"]
exclude_patterns = ["notebooks/figures/*.md"]

nb_execution_mode = "off"  # the notebooks are committed with their outputs
nb_render_markdown_format = "gfm"  # tables that a cell prints in Markdown
nb_ipywidgets_js = {}  # no widgets are kept, and their scripts would come from another host
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

highlight_language = "none"  # for blocks without a language, which are mostly commands
default_role = "literal"  # docstrings have names in single backticks
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 60

repository_address = repository()
html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "footer_content_items": [],
    "navbar_persistent": [],  # removes the second search field, above the page
}
if repository_address:  # Colab opens the committed notebook, whose first cell clones and installs
    html_theme_options |= {
        "repository_url": repository_address,
        "repository_branch": "main",
        "path_to_docs": "",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }
mathjax = (
    Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax" / "tex-svg.js"
)
mathjax_path = mathjax.name  # one file that contains its glyphs
html_static_path = ["book.css", str(mathjax)]
html_css_files = ["book.css"]
html_domain_indices = html_use_index = False  # the search finds more
