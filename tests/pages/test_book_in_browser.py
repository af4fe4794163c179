"""The book in a real browser, as wide as a phone and as a desk."""

import pytest

from tests.explorer.site.conftest import served

pytestmark = [pytest.mark.book, pytest.mark.browser]
WIDE = [  # one page of each kind: these are shown at the second width too
    "index.html",
    "README.html",
    "docs/library.html",
    "notebooks/02_adapter_anatomy.html",
    "api/cma.html",
]


@pytest.fixture(scope="module")
def address(site):
    """Where the book is served, on this computer alone."""
    with served(site) as address:
        yield address


@pytest.mark.parametrize("width, scheme, chosen", [(390, "light", None), (1300, "dark", WIDE)])
def test_no_page_scrolls_sideways_and_no_request_leaves_this_computer(
    browser, address, pages, width, scheme, chosen
):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in chosen or pages:
        page.goto(address + name, timeout=120_000)
        if page.locator(".math").count():
            page.wait_for_selector("mjx-container", state="attached", timeout=120_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()
    assert asked and not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not errors
