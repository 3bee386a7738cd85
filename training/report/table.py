"""One table as Markdown and as HTML, the best number of each column in bold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal


@dataclass(frozen=True)
class Spread:
    """A mean over several runs and the standard deviation of one of them; None of a single run."""

    mean: float
    deviation: float | None


Cell = str | float | Spread | None


@dataclass(frozen=True)
class Column:
    """Title, format of its numbers, and which of them is best."""

    title: str
    format: str = "{}"
    best: Literal["lowest", "highest"] | None = None


@dataclass(frozen=True)
class ReportTable:
    """Rows of cells; None is a cell without a value. note: a sentence below the table."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """Title, table and note."""
        lines = [f"## {self.title}", "", _markdown_row([column.title for column in self.columns])]
        lines.append(_markdown_row(["---"] * len(self.columns)))
        lines += [
            _markdown_row([f"**{text}**" if best else text.replace("|", "\\|") for text, best in row])
            for row in self._texts()
        ]
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def html(self) -> str:
        """Title, table and note; all text escaped."""
        head = "".join(f"<th>{escape(column.title)}</th>" for column in self.columns)
        body = ""
        for row in self._texts():
            cells = "".join(f"<td{' class=best' if best else ''}>{escape(text)}</td>" for text, best in row)
            body += f"<tr>{cells}</tr>\n"
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f"<h2>{escape(self.title)}</h2>\n<table>\n<tr>{head}</tr>\n{body}</table>\n{note}"

    def _texts(self) -> list[list[tuple[str, bool]]]:
        """Text of each cell, and whether it is the best of its column; among one row, none is."""
        best = [_best(column, [row[place] for row in self.rows]) for place, column in enumerate(self.columns)]
        return [
            [
                (_text(column, cell), wanted is not None and _number(cell) == wanted)
                for column, cell, wanted in zip(self.columns, row, best, strict=True)
            ]
            for row in self.rows
        ]


def _best(column: Column, cells: Sequence[Cell]) -> float | None:
    numbers = [number for number in map(_number, cells) if number is not None]
    if column.best is None or len(numbers) < 2:
        return None
    return min(numbers) if column.best == "lowest" else max(numbers)


def _number(cell: Cell) -> float | None:
    return None if isinstance(cell, str) else cell.mean if isinstance(cell, Spread) else cell


def _text(column: Column, cell: Cell) -> str:
    if isinstance(cell, Spread):
        deviation = "" if cell.deviation is None else f" ± {column.format.format(cell.deviation)}"
        return column.format.format(cell.mean) + deviation
    return "-" if cell is None else cell if isinstance(cell, str) else column.format.format(cell)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
