"""Settings of Sphinx for the site of the documents; tools/site.py runs it."""

from gosudacon import __version__

project = "gosudacon"
release = __version__
copyright = "the authors of gosudacon, Apache-2.0"
language = "en"
smartquotes = False  # the words as they are

extensions = ["myst_parser"]
myst_heading_anchors = 4  # as repository browsers have them
suppress_warnings = ["misc.highlighting_failure"]  # "…" in examples of code
highlight_language = "text"

html_theme = "furo"
html_title = f"gosudacon {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
