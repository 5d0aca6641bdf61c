"""What the documentation site does beyond MkDocs: the page of the commands, and links that leave the site."""

import re
from pathlib import Path, PurePosixPath

from command_reference import MARK, command_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_OUTWARD = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+)(?:#[^)]*)?\)")
_ROLE = re.compile(r":(?:class|meth|func|attr|mod):<code>([^<]+)</code>")
"""Docstrings name other objects as Sphinx does, which Markdown shows as it stands."""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in the commands, and takes links to files of the repository for what they are: no pages."""
    if MARK in markdown:
        markdown = markdown.replace(MARK, command_reference())
    docs = Path(config.docs_dir)
    here = docs / PurePosixPath(page.file.src_uri).parent

    def without_link(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        return match[1] if target.exists() and not target.is_relative_to(docs) else match[0]

    return _OUTWARD.sub(without_link, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Shows what a docstring names as code."""
    return _ROLE.sub(r"<code>\1</code>", html)
