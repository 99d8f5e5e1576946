"""Notebooks are pages: text, code and the outputs that are kept in the file. Building the site executes nothing.

A page links to the notebook it was made from, which is copied beside it.
"""

import base64
import json
import posixpath
import re
import shutil
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

DOWNLOAD = '<a href="{name}" download>Download this notebook</a>\n{{ .notebook-file }}\n'
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Notebook(File):
    """A notebook in docs/, which MkDocs takes for a page of Markdown."""

    def is_documentation_page(self):
        return True


def on_files(files, config):
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = Notebook(file.src_uri, file.src_dir, file.dest_dir, file.use_directory_urls)
        text, pictures = markdown(Path(file.abs_src_path))
        files.remove(file)
        files.append(page)
        page.content_string = text
        for name, content in pictures.items():
            folder = posixpath.dirname(file.src_uri)
            files.append(File.generated(config, posixpath.join(folder, name), content=content))
    return files


def on_post_build(config):
    for path in Path(config.docs_dir).rglob("*.ipynb"):
        target = Path(config.site_dir, path.relative_to(config.docs_dir))
        if target.parent.is_dir():
            shutil.copyfile(path, target)


def markdown(path):
    """(text, {name: bytes}): the notebook as Markdown, and the pictures that it names."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts, pictures = [], {}
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(fenced(source, "python"))
            for place, output in enumerate(cell["outputs"]):
                text, content = shown(output, path, f"{path.stem}-{number}-{place}")
                parts.append(text)
                pictures |= content
    head, _, rest = "\n\n".join(parts).partition("\n")
    return f"{head}\n\n{DOWNLOAD.format(name=path.name)}\n{rest}\n", pictures


def shown(output, path, name):
    """(Markdown, {name: bytes}) of one output; what cannot be shown, an error among it, stops the build."""
    if output["output_type"] == "stream" and output["name"] == "stdout":
        return fenced("".join(output["text"]), "text"), {}
    data = output.get("data", {})
    for kind, ending in (("image/png", "png"), ("image/svg+xml", "svg")):
        if kind in data:
            content = "".join(data[kind])
            pictures = {f"{name}.{ending}": base64.b64decode(content) if ending == "png" else content.encode()}
            return f"![What the cell above draws]({name}.{ending})", pictures
    if "text/markdown" in data:
        return "".join(data["text/markdown"]), {}
    if "text/html" in data:
        return f'<div class="notebook-html">{"".join(data["text/html"])}</div>', {}
    if "text/plain" in data:
        return fenced("".join(data["text/plain"]), "text"), {}
    raise PluginError(f"{path.name}: it has an output ({output['output_type']}) that cannot be shown; run it again.")


def fenced(text, language):
    """A block of code or of what it printed; the fence is longer than any in the text."""
    longest = max((len(fence) for fence in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    kind = "{ .text .output }" if language == "text" else language
    return f"{fence} {kind}\n{COLOURS.sub('', text).rstrip()}\n{fence}"
