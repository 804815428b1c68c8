"""What ``streamtrack doctor`` says of the engines."""

from streamtrack.diagnostics import Finding
from streamtrack_engines.backends.selection import reasons_against
from streamtrack_engines.weights import packaged_weights


def findings() -> list[Finding]:
    """Return each back end with the reason against it, in the order in which they are tried, and the weights."""
    reasons = reasons_against()
    chosen = next((name for name, reason in reasons.items() if reason is None), None)
    backends = [
        Finding(f"engine back end {name}", "missing", reason)
        if reason
        else Finding(f"engine back end {name}", "ok", "tried first" if name == chosen else "ready")
        for name, reason in reasons.items()
    ]
    names = packaged_weights()
    weights = Finding("weights", "ok" if names else "broken", ", ".join(names) or "none are packaged: install anew")
    return [*backends, weights]
