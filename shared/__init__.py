"""What collector and relay both speak: the wire between them, subjects, sealing, configuration, telemetry, the connection to NATS.

Exports nothing: `from shared import wire` names the module, so that a line which crosses the border is seen as one.
"""
