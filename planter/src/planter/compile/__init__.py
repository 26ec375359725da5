"""From a manifest to a plan. Everything that can be refused is refused here, with its place."""
