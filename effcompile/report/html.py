"""The report as one self-contained page: no script, no network, light and dark."""

from __future__ import annotations

from pathlib import Path

from effcompile import __version__
from effcompile.report import charts, wording
from effcompile.report.records import RunReport


def render_html(report: RunReport) -> str:
    """The whole page. Names from models are escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("effcompile", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    pictures = {
        task_id: [Markup(svg) for svg in pair]
        for task_id, pair in charts.charts_of(report.tasks).items()
    }
    return template.render(
        report=report,
        wording=wording,
        gains=Markup(charts.gains_chart(report)),
        pictures=pictures,
        version=__version__,
    )


def write_html(report: RunReport, path: Path) -> None:
    """Write the page beside its place and move it there.

    Raises:
        OSError: The file cannot be written.
    """
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(render_html(report), encoding="utf-8")
    beside.replace(path)
