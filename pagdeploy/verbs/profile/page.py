"""The report of a profile: one HTML file that needs no network, and prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from pagdeploy.verbs.profile.charts import inline_figures
from pagdeploy.verbs.profile.result import ProfileResult
from pagdeploy.verbs.profile.tables import Row, headline, tables

_PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Profile of $name</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
.lead { font-size: 1.1rem; }
.note { border-left: 4px solid #D55E00; padding-left: 0.7rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; text-align: left; border-bottom: 1px solid #ddd; }
th { border-bottom-color: #777; white-space: nowrap; }
td.number, th.number { text-align: right; }
figure { margin: 1.2rem 0; }
svg { max-width: 100%; height: auto; }
dt { font-weight: 600; }
dd { margin: 0 0 0.4rem 1rem; overflow-wrap: anywhere; }
@media print { body { max-width: none; font-size: 11px; padding: 0; }
  table, figure { break-inside: avoid; } .wide { overflow: visible; } }
</style>
</head>
<body>
<h1>Profile of $name</h1>
<p class="lead">$headline</p>
$notes
$figures
$tables
<h2>What it is compared with</h2>
$baselines
<h2>How it was measured</h2>
<p>The candidates took turns in one process: $turns. Times are those of whole runs, from inputs in
memory to outputs in memory. The times of nodes come from onnxruntime's profiler in runs of their
own; taking them costs time itself, so their sum is no latency.</p>
$facts
</body>
</html>
"""
)


def write_page(path: Path, result: ProfileResult) -> None:
    """Write the report.

    Args:
        path: HTML file.
        result: What to report.
    """
    effort = result.effort
    facts = {
        "engine": f"{result.engine}, {result.lowering} lowering, {result.precision}",
        "inputs": ", ".join(
            f"{name} {'x'.join(map(str, shape)) or 'scalar'}"
            for name, shape in result.shapes.items()
        ),
        **result.machine,
    }
    page = _PAGE.substitute(
        name=escape(Path(result.bundle).name),
        headline=escape(headline(result)),
        notes="\n".join(f'<p class="note">{escape(note)}</p>' for note in result.notes),
        figures="\n".join(f"<figure>{svg}</figure>" for svg in inline_figures(result)),
        tables="\n".join(
            f'<h2>{escape(table.title)}</h2>\n<div class="wide">'
            f"{_table(table.columns, table.rows)}</div>"
            for table in tables(result)
        ),
        baselines=_list(result.baselines.items()),
        turns=f"{effort.warm_up_ms:g} ms of warm-up each, then at least {effort.iterations} timed"
        f" runs and {effort.duration_s:g} s each",
        facts=_list(facts.items()),
    )
    path.write_text(page, encoding="utf-8")


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    classes = [
        ' class="number"' if all(row[index] == "" or _is_number(row[index]) for row in rows) else ""
        for index in range(len(columns))
    ]

    def line(tag: str, cells: Iterable[object]) -> str:
        return "".join(
            f"<{tag}{kind}>{escape(_text(cell))}</{tag}>"
            for cell, kind in zip(cells, classes, strict=True)
        )

    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    head = f"<tr>{line('th', columns)}</tr>"
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float))


def _text(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _list(entries: Iterable[tuple[str, str]]) -> str:
    items = "\n".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in entries)
    return f"<dl>\n{items}\n</dl>"
