"""The relay: decides across nodes what is true, once, and publishes it signed."""
