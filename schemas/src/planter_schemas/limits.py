"""How large and how deep a manifest may be; what is beyond is refused with a problem, never attempted."""

JSON_BYTES_MAX = 64 * 1024 * 1024
YAML_BYTES_MAX = 16 * 1024 * 1024
"""Smaller than for JSON: each YAML node passes through Python, a JSON value does not."""
PHASES_MAX = 100_000
DEPTH_MAX = 64
"""Objects and lists inside each other, aliases expanded."""
JSON_VALUES_MAX = 5_000_000
"""Brackets and commas in the text, counted before it is parsed: they bound memory."""
YAML_NODES_MAX = 1_000_000
"""Keys and values after aliases are expanded."""
YAML_SEPARATORS_MAX = 1_500_000
"""Line ends and commas in the text, counted before it is parsed: more are refused at once."""
YAML_ALIASES_MAX = 1_000
PROBLEMS_MAX = 1_000
"""Problems listed for one manifest; whoever has more repairs these first."""

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
"""What every JSON library on the wire's other side can hold."""
PHASE_ID_LENGTH_MAX = 128
ATTEMPTS_MAX = 1_000
DURATION_MS_MAX = 10 * 365 * 24 * 3600 * 1000
"""Ten years: whatever is longer is a slip of the unit."""
