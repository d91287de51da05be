"""A monitor's report as one HTML page: no script, nothing from elsewhere, every text escaped."""

import time
from html import escape
from typing import Final

from sottovoce.thirdparty.findings import CODES
from sottovoce.thirdparty.monitor import Report

__all__ = ["render"]

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; }
tr { border-bottom: 1px solid #8884; } code { overflow-wrap: anywhere; }
.good { border-left: .4rem solid #2a7; padding-left: .8rem; } .bad { border-left: .4rem solid #c33; padding-left: .8rem; }
"""


def _utc(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):  # a witness may say any number
        return f"{seconds} s after 1970"


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _findings(report: Report) -> str:
    if not report.findings:
        return '<p class="good">Nothing was found that is not as it must be.</p>'
    rows = (
        _row(f"<code>{escape(one.code)}</code>", escape(one.text), escape(CODES[one.code]))
        for one in report.findings
    )
    head = "<tr><th>code</th><th>found</th><th>what it means</th></tr>"
    count = f"{len(report.findings)} thing{'s' if len(report.findings) != 1 else ''}"
    return f'<p class="bad">{count} found that must not be so.</p><table>{head}{"".join(rows)}</table>'


def render(report: Report) -> str:
    """The page."""
    witnesses = "".join(_row(escape(one.name), escape(_utc(one.time))) for one in report.witnesses)
    counts = "".join(_row(escape(kind), str(count)) for kind, count in sorted(report.counts.items()))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Log monitor: {escape(report.origin)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Log monitor: {escape(report.origin)}</h1>
<p>Looked at {escape(_utc(report.time))}, at <code>{escape(report.url)}</code>.</p>
{_findings(report)}
<h2>Verified tree head</h2>
<table>
{_row("entries", str(report.size))}
{_row("of these new", str(report.new))}
{_row("root", f"<code>{report.root.hex()}</code>")}
</table>
<h2>Witnesses ({report.quorum} of {len(report.witnesses)} must cosign)</h2>
<table><tr><th>witness</th><th>cosigned the newest tree head shown</th></tr>{witnesses}</table>
<h2>Entries</h2>
<table>{counts}</table>
<p>{report.artifacts} public artifacts were fetched and are what the log says.</p>
</body>
</html>
"""
