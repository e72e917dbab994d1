"""The report as one self-contained page: no script, no network, light and dark."""

from __future__ import annotations

from pathlib import Path

from effcompile import __version__
from effcompile.output_files import replacing
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
        UsageError: The folder does not exist, or the path is one.
        OutputUnwritable: No space or no right to write.
    """
    with replacing(path) as file:
        file.write(render_html(report).encode("utf-8"))
