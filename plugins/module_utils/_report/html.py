# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file that needs nothing else: no script, no font, no network.

A status is told by colour, letter and pattern, so that it survives print and colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from ansible_collections.underlay.ipsec.plugins.module_utils._report.matrix import (
    LETTERS,
    about,
    as_planned,
    by_row,
    columns_of,
    grouped,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._report.vips import where

Data = Mapping[str, Any]

_CLASSES = {"encrypted": "enc", "clear": "clr", "blocked": "blk", "unreachable": "unr", "not observed": "non"}
_NAMES = 8
# (up to so many members, the width of a cell); in the smallest there are no names beside the matrix.
_CELL_PIXELS = ((16, 34), (60, 18), (110, 10), (200, 6))
_SMALLEST_PIXELS = 4
# Up to so many members each cell is drawn by itself; beyond, a row of like cells becomes one bar.
_SINGLE_CELLS = 60

_STYLE = """
:root { color-scheme: light dark; --bg: #ffffff; --fg: #1c2128; --dim: #5d6773; --line: #d5dae0; --panel: #f5f7f9;
  --enc: #2f855a; --clr: #d9383a; --pln: #6ba3d6; --blk: #d98a1f; --unr: #7b6bb5; --non: #c3c9d0; --on: #ffffff;
  --mark: #1c2128; }
@media (prefers-color-scheme: dark) { :root { --bg: #14181d; --fg: #e4e8ec; --dim: #98a3af; --line: #363e48;
  --panel: #1c2229; --enc: #37966a; --clr: #e5484d; --pln: #4a7fb0; --blk: #c47d1c; --unr: #8474c0; --non: #4b545f;
  --mark: #ffffff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 82rem; background: var(--bg); color: var(--fg);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem; }
code, .num { font-family: ui-monospace, monospace; font-size: .92em; }
.dim { color: var(--dim); }
.verdict { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; }
.good { border-left: .4rem solid var(--enc); } .bad { border-left: .4rem solid var(--clr); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
.fixed { table-layout: fixed; } .fixed th:first-child { width: 26%; } .fixed th:last-child { width: 32%; }
th { color: var(--dim); font-weight: 600; font-size: .85rem; }
td.warn { color: var(--clr); font-weight: 600; }
.scroll { overflow: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.25rem; font-size: .88rem; margin: .5rem 0 1rem; }
.legend svg { vertical-align: -3px; margin-right: .4rem; }
svg text { fill: var(--fg); font-family: ui-monospace, monospace; }
svg .letter { fill: var(--on); font-weight: 700; text-anchor: middle; pointer-events: none; }
svg .non + .letter { fill: var(--fg); }
.enc { fill: var(--enc); } .clr { fill: var(--clr); } .pln { fill: var(--pln); } .blk { fill: var(--blk); }
.unr { fill: var(--unr); } .non { fill: var(--non); } .self { fill: var(--panel); stroke: var(--line); }
.off { stroke: var(--mark); }
@media print { * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { padding: 0; max-width: none; } .scroll { overflow: visible; } svg { max-width: 100%; height: auto; } }
"""

_PATTERNS = """<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>
<pattern id="p-clr" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="2.2" height="7" fill="#000" fill-opacity=".28"/></pattern>
<pattern id="p-blk" width="7" height="7" patternUnits="userSpaceOnUse">
<path d="M0 0L7 7M7 0L0 7" stroke="#000" stroke-opacity=".3" stroke-width="1.2"/></pattern>
<pattern id="p-unr" width="6" height="6" patternUnits="userSpaceOnUse">
<circle cx="3" cy="3" r="1.3" fill="#000" fill-opacity=".35"/></pattern>
</defs></svg>"""
_PATTERNED = frozenset({"clr", "blk", "unr"})


def render(report: Data) -> str:
    """Return the report (the content of report.json) as an HTML document."""
    return "".join(_page(report))


def _page(report: Data) -> Iterator[str]:
    yield "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
    yield "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    yield f"<title>IPsec: {escape(report['group'])}</title><style>{_STYLE}</style></head>\n<body>{_PATTERNS}"
    yield from _summary(report)
    yield from _problems(report)
    for network in report["networks"]:
        yield from _network(report, network)
    yield from _members(report)
    yield from _certificates(report)
    yield from _vips(report)
    yield from _endpoints(report)
    yield from _warnings(report)
    yield "</body></html>\n"


def _summary(report: Data) -> Iterator[str]:
    summary = report["summary"]
    headline = "Everything is as planned" if report["ok"] else "Not as planned"
    yield f"<h1>{headline}</h1><p class='dim'>Group {escape(report['group'])}, enforcement "
    yield f"<code>{escape(report['enforcement'])}</code>, stage <code>{escape(report['stage'])}</code>, observed "
    yield f"{escape(report['generated'])}. Plan <code>{escape(report['plan_digest'][:12])}</code>.</p>"
    if not report["complete"]:
        yield "<p><b>This run did not cover the whole cluster.</b> Not part of it, so what they send was not"
        yield f" observed: {escape(', '.join(report['not_in_this_run']))}.</p>"
    yield f"<div class='verdict'><div class='tile {'good' if report['ok'] else 'bad'}'><b>"
    yield f"{summary['as_planned']} of {summary['in_this_run']}</b>pairs as planned</div>"
    for status in LETTERS:
        count = summary[status.replace(" ", "_")]
        if count:
            yield f"<div class='tile'><b>{count}</b>{escape(status)}</div>"
    yield "</div>"


def _problems(report: Data) -> Iterator[str]:
    if not report["problems"]:
        return
    yield "<h2>Problems</h2><table class='fixed'><tr><th>Who</th><th>What</th><th>What to do</th></tr>"
    for group in grouped(report["problems"]):
        everyone = escape(about(group, len(group)))
        yield f"<tr><td title='{everyone}'>{escape(about(group, _NAMES))}</td>"
        yield f"<td>{_code(group[0]['message'])}</td><td>{_code(group[0]['remedy'])}</td></tr>"
    yield "</table>"


def _code(text: str) -> str:
    """Escape *text*; what is between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _members(report: Data) -> Iterator[str]:
    yield "<h2>Members</h2><div class='scroll'><table><tr><th>Member</th><th>Addresses</th><th>Libreswan</th>"
    yield "<th>Service</th></tr>"
    for name, member in report["members"].items():
        addresses = ", ".join(f"{address} ({network})" for network, address in member["addresses"].items())
        label = (
            escape(name)
            if name == member["fqdn"]
            else f"{escape(name)} <span class='dim'>{escape(member['fqdn'])}</span>"
        )
        yield f"<tr><td>{label}</td><td class='num'>{escape(addresses)}</td>"
        if not member["observed"]:
            why = "not observed" if member["in_this_run"] else "not part of this run"
            yield f"<td class='dim' colspan='2'>{why}</td></tr>"
            continue
        service = member["service"] or {}
        state = "running" if service.get("active") else "not running"
        yield f"<td>{escape(member['libreswan'] or 'not installed')}</td>"
        yield f"<td{'' if service.get('active') else ' class=warn'}>{state}</td></tr>"
    yield "</table></div>"


def _certificates(report: Data) -> Iterator[str]:
    section = report["certificates"]
    if not section:
        return
    yield "<h2>Certificates</h2>"
    members = (_certificate(name, entry) for name, entry in section["members"].items())
    yield from _table("Member, Subject, Issuer, Serial number, Key, Expires, Days left", members)
    authorities = map(_authority, section["authorities"])
    yield from _table("Authority, Serial number, Key, Expires, Days left", authorities)
    crls = map(_crl, section["crls"])
    yield from _table("Revoked certificates of, How many, List valid until, Days left", crls)


def _table(headings: str, rows: Iterable[str]) -> Iterator[str]:
    """Yield a table; nothing without rows."""
    text = "".join(f"<tr>{row}</tr>" for row in rows)
    if text:
        head = "".join(f"<th>{heading}</th>" for heading in headings.split(", "))
        yield f"<div class='scroll'><table><tr>{head}</tr>{text}</table></div>"


def _certificate(member: str, entry: Data | None) -> str:
    if entry is None:
        return f"<td>{escape(member)}</td><td class='warn' colspan='6'>none</td>"
    return (
        f"<td title='{escape(entry['nickname'])}'>{escape(member)}</td><td>{escape(entry['subject'])}</td>"
        f"<td>{escape(entry['issuer'])}</td><td class='num'>{escape(entry['serial'])}</td>"
        f"<td>{escape(entry['key_type'])}</td>{_expiry(entry, 'not_after')}"
    )


def _authority(entry: Data) -> str:
    return (
        f"<td>{escape(entry['subject'])}</td><td class='num'>{escape(entry['serial'])}</td>"
        f"<td>{escape(entry['key_type'])}</td>{_expiry(entry, 'not_after')}"
    )


def _crl(entry: Data) -> str:
    return f"<td>{escape(entry['issuer'])}</td><td>{entry['revoked']}</td>{_expiry(entry, 'next_update')}"


def _expiry(entry: Data, key: str) -> str:
    """Return the last two cells of a row: when it ends, and in how many days."""
    if entry[key] is None:
        return "<td class='dim' colspan='2'>no end</td>"
    warn = "" if entry["state"] == "valid" else " class='warn'"
    return f"<td>{escape(entry[key][:10])}</td><td{warn}>{entry['days_left']}</td>"


def _vips(report: Data) -> Iterator[str]:
    if not report["vips"]:
        return
    yield "<h2>Virtual addresses</h2><div class='scroll'><table><tr><th>Name</th><th>Address</th><th>Network</th>"
    yield "<th>On</th></tr>"
    for vip in report["vips"]:
        yield f"<tr><td>{escape(vip['name'])}</td><td class='num'>{escape(vip['address'])}</td>"
        yield f"<td>{escape(vip['network'])}</td><td>{escape(where(vip))}</td></tr>"
    yield "</table></div>"


def _endpoints(report: Data) -> Iterator[str]:
    if not report["endpoints"]:
        return
    yield "<h2>Endpoints</h2><div class='scroll'><table><tr><th>Endpoint</th><th>Address</th><th>Member</th>"
    yield "<th>Security association</th></tr>"
    for endpoint in report["endpoints"]:
        yield f"<tr><td>{escape(endpoint['name'])}</td><td class='num'>{escape(endpoint['address'])}</td>"
        yield f"<td>{escape(endpoint['member'])}</td>"
        if endpoint["established"]:
            yield f"<td><code>{escape(endpoint['cipher'])}</code>{_wrapped(endpoint)}</td></tr>"
        else:
            warn = "dim" if endpoint["established"] is None else "warn"
            yield f"<td class='{warn}'>{escape(endpoint['reason'])}</td></tr>"
    yield "</table></div>"


def _warnings(report: Data) -> Iterator[str]:
    if report["warnings"]:
        yield f"<h2>Warnings</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in report['warnings'])}</ul>"


def _network(report: Data, network: Data) -> Iterator[str]:
    rows = by_row(report, network["name"])
    pairs = [pair for row in rows.values() for pair in row.values()]
    yield f"<h2>Network {escape(network['name'])} <span class='dim'><code>{escape(network['cidr'])}</code>: "
    yield f"{as_planned(pairs)}</span></h2>"
    if not pairs:
        yield "<p class='dim'>It has fewer than two members.</p>"
        return
    yield f"<div class='legend'>{''.join(_legend(pairs))}</div>"
    yield f"<div class='scroll'>{''.join(_matrix(rows))}</div>"


def _legend(pairs: Iterable[Data]) -> Iterator[str]:
    seen = {(_class(pair), pair["observed"]) for pair in pairs}
    for status, letter in LETTERS.items():
        for kind in (_CLASSES[status], "pln"):
            if (kind, status) in seen:
                text = f"{status} as planned" if kind == "pln" else status
                yield f"<span><svg width='18' height='18'>{_cell(0, 0, 18, 18, kind, letter, '', False)}</svg>{text}</span>"
    if any(pair["as_planned"] is False for pair in pairs):
        yield "<span><svg width='18' height='18'><rect class='self off' stroke-width='2' x='1' y='1' width='16' height='16'/></svg>"
        yield "framed: not as planned</span>"
    yield "<span class='dim'>rows send, columns receive</span>"


def _class(pair: Data) -> str:
    return "pln" if pair["observed"] == "clear" and pair["as_planned"] else _CLASSES[pair["observed"]]


def _matrix(rows: Mapping[str, Mapping[str, Data]]) -> Iterator[str]:
    names = columns_of(rows)
    size = next((size for most, size in _CELL_PIXELS if len(names) <= most), _SMALLEST_PIXELS)
    font = min(13, max(size - 1, 6))
    # A character of a monospace font is about 0.62 of its size wide.
    margin = 12 + int(max(len(name) for name in names) * font * 0.62) if size > _SMALLEST_PIXELS else 12
    extent = margin + size * len(names) + 2
    yield f"<svg width='{extent}' height='{extent}' viewBox='0 0 {extent} {extent}' role='img'"
    yield " aria-label='Matrix of senders and receivers'>"
    for index, name in enumerate(names):
        middle = margin + index * size + size / 2
        if size > _SMALLEST_PIXELS:
            if name in rows:
                yield f"<text x='{margin - 6}' y='{middle + font * 0.35:.1f}' font-size='{font}' text-anchor='end'>"
                yield f"{escape(name)}</text>"
            yield f"<text font-size='{font}' transform='translate({middle + font * 0.35:.1f} "
            yield f"{margin - 6}) rotate(-90)'>{escape(name)}</text>"
        if name in rows:
            yield from _row(names, name, rows[name], margin, margin + index * size, size)
    yield "</svg>"


def _row(
    names: Sequence[str], name: str, row: Mapping[str, Data], left: int, top: int, size: int
) -> Iterator[str]:
    single = len(names) <= _SINGLE_CELLS

    def likeness(entry: tuple[int, str]) -> tuple[Any, ...]:
        column, to = entry
        pair = row.get(to)
        if pair is None or single or pair["as_planned"] is False:
            return (column,)
        return (-1, _class(pair))

    for _like, run in groupby(enumerate(names), likeness):
        cells = list(run)
        column, first = cells[0]
        last = cells[-1][1]
        pair = row.get(first)
        x, width = left + column * size, size * len(cells)
        if pair is None:
            yield f"<rect class='self' x='{x}' y='{top}' width='{size}' height='{size}'/>"
        else:
            letter = LETTERS[pair["observed"]] if size >= 18 else ""
            title = _title(pair) if len(cells) == 1 else f"{name} → {first} … {last}: {pair['observed']}"
            yield _cell(x, top, width, size, _class(pair), letter, title, pair["as_planned"] is False)


def _cell(
    x: float, y: float, width: float, height: float, kind: str, letter: str, title: str, deviates: bool
) -> str:
    """Return one rectangle of the matrix, with a gap around it unless it is tiny."""
    frame = 2 if height >= 18 else 1
    gap = frame * 0.75 if deviates else 0.5 if height > _SMALLEST_PIXELS else 0
    box = f"x='{x + gap}' y='{y + gap}' width='{width - 2 * gap}' height='{height - 2 * gap}'"
    outline = f" off' stroke-width='{frame}'" if deviates else "'"
    parts = [f"<rect class='{kind}{outline} {box}/>"]
    if kind in _PATTERNED:
        parts.insert(1, f"<rect {box} fill='url(#p-{kind})'/>")
    if letter:
        font = min(16, height * 0.55)
        parts.append(
            f"<text class='letter' x='{x + width / 2}' y='{y + height / 2 + font * 0.36:.1f}'"
            f" font-size='{font:.1f}'>{escape(letter)}</text>"
        )
    if title:
        return f"<g>{''.join(parts)}<title>{escape(title)}</title></g>"
    return "".join(parts)


def _title(pair: Data) -> str:
    details = [f"{pair['from']} → {pair['to']}: {pair['observed']}"]
    if pair["as_planned"] is False:
        details.append(f"planned: {pair['expected']}")
    if pair["observed"] == "encrypted":
        details.append(f"{pair['cipher']}{_wrapped(pair)}, SPI {pair['spi_out']} out, {pair['spi_in']} in")
    if pair["certificate"]:
        details.append(f"{pair['to']} showed the certificate {pair['certificate']}")
    if pair["reason"]:
        details.append(pair["reason"])
    return "\n".join(details)


def _wrapped(entry: Data) -> str:
    """Return in what the ESP of a pair or endpoint travels, if in anything."""
    return f" in {entry['encapsulation'].upper()}" if entry["encapsulation"] else ""
