"""A report as Markdown with files beside it, and as one HTML file that needs no other."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2

from training.errors import DataError
from training.evaluation.pictures import Picture
from training.report.table import ReportTable

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
td.best { font-weight: 700 }
p { color: #666 }
img { max-width: 100% }
"""


@dataclass(frozen=True)
class Report:
    """What a page shows. curves: SVG, or None without a log. sheet: RGB picture, or None without data."""

    title: str
    tables: Sequence[ReportTable]
    curves: str | None = None
    sheet: Picture | None = None


def write_report(folder: Path, report: Report) -> None:
    """Write report.md, curves.svg and sheet.jpg as far as there are any, and report.html, which holds all of it.

    Raises:
        DataError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown = [f"# {report.title}\n", *(table.markdown() for table in report.tables)]
    html = [table.html() for table in report.tables]
    if report.curves is not None:
        (folder / "curves.svg").write_text(report.curves)
        markdown.append("## Curves\n\n![validation curves](curves.svg)\n")
        html.append(f"<h2>Curves</h2>\n{_embedded('validation curves', 'image/svg+xml', report.curves.encode())}")
    if report.sheet is not None:
        jpeg = _jpeg(report.sheet)
        (folder / "sheet.jpg").write_bytes(jpeg)
        markdown.append("## The same frames\n\n![predictions and errors](sheet.jpg)\n")
        html.append(f"<h2>The same frames</h2>\n{_embedded('predictions and errors', 'image/jpeg', jpeg)}")
    (folder / "report.md").write_text("\n".join(markdown))
    title = escape(report.title)
    head = f"<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<title>{title}</title>\n<style>{STYLE}</style>"
    (folder / "report.html").write_text("\n".join([head, f"<h1>{title}</h1>", *html]) + "\n")


def _embedded(description: str, media_type: str, content: bytes) -> str:
    return f'<img alt="{description}" src="data:{media_type};base64,{b64encode(content).decode()}">'


def _jpeg(picture: Picture) -> bytes:
    encoded, buffer = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not encoded:
        raise DataError(f"a sheet of {picture.shape[1]}x{picture.shape[0]} pixels is too large: ask for fewer pictures")
    return buffer.tobytes()
