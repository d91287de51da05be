"""The documentation site: `make docs`. It is made of the Markdown files as they are, and of the docstrings of what programs use."""

import sottovoce

project = "Sottovoce"
author = "the Sottovoce developers"
version = release = sottovoce.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "evaluation/README.md", "examples/chats/README.md"]
exclude_patterns = ["build", ".venv", "mutants", "CLAUDE.md", "AGENTS.md"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
html_theme = "furo"
html_title = "Sottovoce"
html_show_sourcelink = False
html_copy_source = False
# Whoever reads about privacy is not to be reported to anybody: nothing is loaded from elsewhere.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e5b", "color-brand-content": "#0b6e5b"}
}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Code that a page points to is in the repository, not on the site; examples in other languages are not coloured.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
