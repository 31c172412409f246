"""What the sandbox writes into a template's compiled code: the calls that count.

Each is a method of the environment (sandbox.py): step, charge, admit, weigh, cut, spread, join_strings, settable,
chainable.
"""

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser


class BudgetedCode(CodeGenerator):
    """Writes the counting into the template's compiled code."""

    def blockvisit(self, nodes: Any, frame: Frame) -> None:
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:
        size = sum(len(child.data) for child in node.nodes if isinstance(child, nodes.TemplateData))
        self.writeline(f"environment.charge({size})")
        super().visit_Output(node, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        if node.test is not None:  # items that the test refuses never reach the body's step
            node.test = nodes.And(_environment_call("step"), node.test)
        super().visit_For(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        node.expr = _environment_call("weigh", node.expr)
        for operand in node.ops:
            operand.expr = _environment_call("weigh", operand.expr)
        self.write("(environment.step() and ")
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:
        if node.name in ("defined", "undefined"):
            node.node = _chainable(node.node)
        super().visit_Test(node, frame)

    def visit_Assign(self, node: nodes.Assign, frame: Frame) -> None:
        """As Jinja's, but that `{% set a.b = c %}` may also set a key of a mapping."""
        self.push_assign_tracking()
        self._write_settable(node.target, frame)
        self.newline(node)
        self.visit(node.target, frame)
        self.write(" = ")
        self.visit(node.node, frame)
        self.pop_assign_tracking(frame)

    def visit_AssignBlock(self, node: nodes.AssignBlock, frame: Frame) -> None:
        self._write_settable(node.target, frame)
        super().visit_AssignBlock(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.join_strings((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._write_admitted(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._write_admitted(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._write_admitted(super().visit_Tuple, node, frame)
        else:  # the target of an assignment
            super().visit_Tuple(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self.write("environment.cut(")
            super().visit_Getitem(node, frame)
            self.write(")")
        else:
            super().visit_Getitem(node, frame)

    def signature(self, node: Any, frame: Frame, extra_kwargs: Any = None) -> None:
        if node.dyn_args is not None:
            node.dyn_args = _environment_call("spread", node.dyn_args)
        if node.dyn_kwargs is not None:
            node.dyn_kwargs = _environment_call("spread", node.dyn_kwargs)
        super().signature(node, frame, extra_kwargs)

    def _refuse(self, node: nodes.Node, frame: Frame) -> None:
        self.fail(f"a chat template stands alone; it has {type(node).__name__.lower()}", node.lineno)

    visit_Include = visit_Extends = visit_Import = visit_FromImport = _refuse

    def _write_settable(self, target: nodes.Expr, frame: Frame) -> None:
        references = [target] if isinstance(target, nodes.NSRef) else target.find_all(nodes.NSRef)
        for name in sorted({reference.name for reference in references}):
            self.writeline(f"environment.settable({frame.symbols.ref(name)})")

    def _write_admitted(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.admit(")
        visit(node, frame)
        self.write(")")


def _environment_call(method: str, *args: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), list(args), [], None, None)


def _chainable(node: nodes.Expr) -> nodes.Expr:
    """a.b.c of `a.b.c is defined`, which is undefined where a or a.b is, too; in Jinja2 those end the rendering."""
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        node.node = _environment_call("chainable", _chainable(node.node))
    return node


class GenerationTag(Extension):
    """{% generation %} ... {% endgeneration %} marks answers for training; rendering passes it by."""

    tags = {"generation"}  # noqa: RUF012  # the attribute that Jinja reads

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
