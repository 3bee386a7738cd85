"""Tables say which number is best, and escape what they are given."""

from __future__ import annotations

from training.report.table import Column, ReportTable

TABLE = ReportTable(
    "A & B",
    [Column("run"), Column("error", "{:.2f}", "lowest"), Column("share", "{:.1f}", "highest"), Column("n")],
    [["a|<b>", 0.5, 0.25, 3], ["c", 0.25, 0.75, 4], ["d", None, 0.75, 5]],
    "Over 1 < 2 frames.",
)


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "## A & B",
        "",
        "| run | error | share | n |",
        "| --- | --- | --- | --- |",
        "| a\\|<b> | 0.50 | 0.2 | 3 |",
        "| c | **0.25** | **0.8** | 4 |",
        "| d | - | **0.8** | 5 |",
        "",
        "Over 1 < 2 frames.",
    ]


def test_html() -> None:
    html = TABLE.html()
    assert "<h2>A &amp; B</h2>" in html
    assert "<td>a|&lt;b&gt;</td><td>0.50</td>" in html
    assert "<td class=best>0.25</td><td class=best>0.8</td><td>4</td>" in html
    assert "<p>Over 1 &lt; 2 frames.</p>" in html


def test_alone_nothing_is_best() -> None:
    table = ReportTable("t", [Column("x", "{}", "lowest")], [[1]])
    assert "best" not in table.html()
    assert "**" not in table.markdown()
