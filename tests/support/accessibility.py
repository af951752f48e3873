"""What is wrong with a page for people who cannot see it, or use no mouse."""

import pytest
from devtools import Page

from stream_server.transport.pages import FOLDER

AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong, each with its first element."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm ci in client_js, or make test-browser")
    page.evaluate(f"(() => {{ {AXE.read_text()} }})()")
    found_wrong = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>"
        " violations.map(({ id, nodes }) => id + ': ' + nodes[0].html + nodes[0].failureSummary))"
    )
    return list(found_wrong)
