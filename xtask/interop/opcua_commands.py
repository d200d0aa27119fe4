"""Commands to an OPC UA server. The client `scada` may command."""

from panel import Panel
from peers import expect, main


def write(mqtt, _kafka):
    """Allowed commands are carried out in the type of their node."""
    panel = Panel(mqtt, "scada")
    done = panel.ask("setpoint", 41.5)
    expect((done["outcome"], done["value"]), ("done", 41.5), "the setpoint's result")
    done = panel.ask("mode", -7)
    expect((done["outcome"], done["value"]), ("done", -7), "the mode's result")
    panel.refused("out-of-range", "setpoint", 100.5)
    panel.refused("wrong-type", "mode", 1.5)
    # An Int16 has no such number: the session refuses it before the server does.
    panel.refused("wrong-type", "mode", 40_000)
    # The server lets nobody write it.
    failed = panel.ask("speed", 1.0)
    expect((failed["outcome"], failed["status"]), ("failed", "BadNotWritable"), "the speed")


main({"write": write})
