"""From a manifest to a plan. Everything that can be refused is refused here, with its place."""

from planter.compile.phases import Compiled, compile_manifest

__all__ = ["Compiled", "compile_manifest"]
