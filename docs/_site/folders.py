"""A link to a folder, which a code host lists, leads to the folder's own page on the site."""

import re
from pathlib import Path

FOLDER = re.compile(r"(?<=\]\()([\w./-]+/)(?=\))")


def on_page_markdown(markdown, page, config, **_):
    here = Path(config.docs_dir, page.file.src_uri).parent

    def page_of(link):
        return link[1] + ("index.html" if (here / link[1] / "index.html").is_file() else "")

    return FOLDER.sub(page_of, markdown)
