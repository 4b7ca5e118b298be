# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a picture."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._report.compare import Scope, compare
from ansible_collections.underlay.ipsec.plugins.module_utils._report.html import render

from .plans import PORTS, authenticated, ca, clear, crl, endpoint, plan, results, with_gate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
VOID = {"meta"}


class Balance(HTMLParser):
    """Fails if an element is not closed in the right order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(names: list[str], **replaced: dict[str, Any]) -> str:
    observed = results(names, **replaced)
    scope = Scope(observed, frozenset(names))
    return render(compare(plan(names), scope, {key: [PORTS] for key in names}, stage="verify", now=NOW))


@pytest.mark.parametrize("count", [1, 2, 4, 20, 70, 120, 210])
def test_is_well_formed_at_every_size(count: int) -> None:
    names = [f"h{number}" for number in range(1, count + 1)]
    parser = Balance()
    parser.feed(page(names, h1_h2=clear("h1", "h2")))
    assert parser.open == []


def test_is_self_contained() -> None:
    text = page(["h1", "h2"])
    assert not re.search(r"<script|<link|src=|@import|https?:", text)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


def test_escapes_what_others_wrote() -> None:
    text = page(["h1", "h2"], h1_h2=clear("h1", "h2", reason="<b onload='x'>&\"</b>"))
    assert "<b onload" not in text
    assert "&lt;b onload=&#x27;x&#x27;&gt;&amp;&quot;" in text


def test_a_deviation_is_framed_and_told() -> None:
    text = page(["h1", "h2"], h1_h2=clear("h1", "h2"))
    assert "Not as planned" in text
    assert "<rect class='clr off'" in text
    assert "fill='url(#p-clr)'" in text
    assert "h1 → h2: clear\nplanned: encrypted" in text


def test_the_certificate_that_the_receiver_showed() -> None:
    names = ["h1", "h2"]
    observed = results(names)
    observed["h1"]["authenticated"] = [authenticated("h2", 1, "O=x, CN=h2")]
    scope = Scope(observed, frozenset(names))
    text = render(compare(plan(names), scope, {}, stage="verify", now=NOW))
    assert text.count("h2 showed the certificate O=x, CN=h2</title>") == 1
    assert "showed" not in text.replace("h2 showed", "")


def test_large_matrices_draw_bars() -> None:
    names = [f"h{number}" for number in range(1, 101)]
    # Two bars in each row, one on either side of the diagonal, but for the first and the last row.
    assert page(names).count("<rect class='enc'") == 2 * 100 - 2 + 1


def test_certificates() -> None:
    names = ["h1", "h2"]
    observed = results(names)
    observed["h1"]["certificate"]["not_after"] = "2026-02-05T00:00:00Z"
    observed["h2"]["certificate"] = None
    observed["h1"]["authorities"] = [ca()]
    observed["h1"]["crls"] = [crl(), crl(next_update=None)]
    scope = Scope(observed, frozenset(names))
    text = render(compare(plan(names), scope, {}, stage="verify", now=NOW))
    assert "<td>2026-02-05</td><td class='warn'>4</td>" in text
    assert "<td>h2</td><td class='warn' colspan='6'>none</td>" in text
    assert (
        "<td>O=underlay.ipsec, CN=ca</td><td class='num'>1</td><td>ecdsa-p384</td><td>2036-01-31</td><td>3651</td>"
        in text
    )
    assert "<td>1</td><td>2026-04-01</td><td>59</td>" in text
    assert "<td class='dim' colspan='2'>no end</td>" in text
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_without_certificates_there_is_nothing_about_them() -> None:
    names = ["h1", "h2"]
    scope = Scope(results(names), frozenset(names))
    planned = plan(names, certificates=None)
    assert "Certificates" not in render(compare(planned, scope, {}, stage="verify", now=NOW))


def test_endpoints() -> None:
    names = ["h1", "h2", "h3"]
    observed = results(names)
    observed["h1"]["endpoints"] = [with_gate()]
    observed["h2"]["endpoints"] = [with_gate("<no answer>")]
    scope = Scope(observed, frozenset(names))
    text = render(compare(plan(names, endpoints=[endpoint(*names)]), scope, {}, stage="verify", now=NOW))
    assert "<td>h1</td><td><code>aes_gcm256</code> in UDP</td>" in text
    assert "<td>h2</td><td class='warn'>&lt;no answer&gt;</td>" in text
    assert "<td>h3</td><td class='dim'>not observed</td>" in text
    assert "Endpoints" not in page(["h1", "h2"])
