"""``streamtrack doctor``: what works on this machine, and what to install for the rest."""

from streamtrack import registry
from streamtrack.diagnostics import Finding
from streamtrack.errors import described
from streamtrack.report import machine, versions

STYLES = {"ok": "green", "missing": "yellow", "broken": "red"}


def doctor() -> None:
    """Say what works on this machine: microscope, cameras, engines; and what to install for the rest."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(", ".join(f"{name} {number}" for name, number in versions().items()), soft_wrap=True)
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()), soft_wrap=True)
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    for finding in all_findings():
        detail = f"{finding.detail}\n{finding.cure}" if finding.cure else finding.detail
        table.add_row(Text(finding.state, STYLES[finding.state]), Text(finding.topic), Text(detail))
    console.print(table)


def all_findings() -> list[Finding]:
    """Ask every installed plug-in of the group ``streamtrack.diagnostics``; one that raises is a finding itself."""
    findings: list[Finding] = []
    for name in registry.names("diagnostics"):
        try:
            findings += registry.load("diagnostics", name)()
        except Exception as error:
            findings.append(Finding(name, "broken", described(error)))
    return findings
