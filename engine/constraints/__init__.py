"""Forms that an answer must have: what a client writes down, compiled to guides that allow no other token."""

from engine.constraints.compiler import Compiler, Constraint
from engine.constraints.spec import ConstraintKind, ConstraintSpec

__all__ = ["Compiler", "Constraint", "ConstraintKind", "ConstraintSpec"]
