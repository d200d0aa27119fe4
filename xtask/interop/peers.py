"""What every peer script shares: arguments, waiting, and the exit code."""

import sys
import time
import traceback

# The longest time that a peer may take for anything that should be quick.
PATIENCE_S = 30


def wait_for(condition, what, patience_s=PATIENCE_S):
    """Waits until condition() is true; returns its value."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s} s for {what}")


def expect(actual, expected, what):
    """Compares two values and shows both when they differ."""
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def main(scenarios):
    """Runs the scenario named on the command line: NAME MQTT KAFKA [ARG ...]."""
    name, mqtt, kafka, *rest = sys.argv[1:]
    try:
        scenarios[name](mqtt, kafka, *rest)
    except Exception:  # The runner wants the reason, whatever it is.
        traceback.print_exc()
        sys.exit(1)
