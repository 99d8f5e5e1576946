"""The site, built once for all tests of it, and a browser that opens it."""

import fcntl
import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.browser import opened
from tests.site.html import Page


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site. Whichever process comes first builds it for all."""
    pytest.importorskip("material", reason="mkdocs-material is not installed (make venv)")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, log = base / "site", base / "site.log"
    with (base / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not log.exists():
            log.write_text(build(folder))
    assert log.read_text() == ""
    return folder


def build(folder: Path, config: str = "mkdocs.yml") -> str:
    """Builds into ``folder`` as `make docs` does, and returns what is wrong with it, nothing if all is well."""
    # Not --quiet: it keeps warnings from being counted, so that nothing would be strict about them.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("INFO ")]
    return "\n".join(said) or ("" if done.returncode == 0 else f"mkdocs ended with {done.returncode}")


@pytest.fixture(scope="session")
def pages(site) -> dict[str, Page]:
    """Each built page by its path; not the page of the study, which is a file of its own and has tests of its own."""
    paths = [path for path in sorted(site.rglob("*.html")) if path.parent.name != "study-digits"]
    return {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in paths}


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    """Where the site is served, on this machine only."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def open_page(browser, address):
    """Opens a page of the site by its path."""
    with opened(browser, (address, "data:", "blob:"), 1400, 900) as open_:
        yield lambda path, **options: open_(f"{address}/{path}", **options)
