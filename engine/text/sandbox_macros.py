"""Macros that read a loop's variable of their caller, as some templates have them.

`{% macro name() %}{{ tool.name }}{% endmacro %}{% for tool in tools %}{{ name() }}{% endfor %}` prints names in
engines where a macro sees what its caller sees, such as llama.cpp's. In Jinja2 such a `tool` is always undefined:
so each call hands it over, as if the macro had a parameter of that name. A name that the template also sets outside
its loops, or that comes with the request, keeps Jinja2's meaning.
"""

from collections.abc import Iterable, Iterator, Mapping

from jinja2 import nodes

FROM_THE_REQUEST = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
SCOPES = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.With, nodes.FilterBlock, nodes.AssignBlock)
MAX_HANDED = 1000  # names written into calls, in all; a template with more keeps Jinja2's meaning


def hand_over_loop_variables(template: nodes.Template) -> None:
    """Change the parsed template so that its macros' calls name what the macros read of their callers."""
    macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}
    wanted = _wanted(template, macros)
    handed = [
        (call, wanted[callee])
        for call in template.find_all(nodes.Call)
        if (callee := _callee(call)) in wanted
    ]
    if sum(len(names) for _, names in handed) > MAX_HANDED:
        return
    for call, names in handed:
        call.kwargs.extend(nodes.Keyword(name, nodes.Name(name, "load")) for name in sorted(names))
    for macro in macros.values():
        for name in sorted(wanted[macro.name]):
            macro.args.append(nodes.Name(name, "param"))
            macro.defaults.append(nodes.Name(name, "load"))  # itself: undefined where no call gives it


def _wanted(template: nodes.Template, macros: Mapping[str, nodes.Macro]) -> dict[str, set[str]]:
    """The names that each macro reads of its callers, or hands on to the macros that it calls."""
    in_loops = {name for loop in template.find_all(nodes.For) for name in _names([loop.target], "store")}
    candidates = in_loops - _set_outside(template.body) - FROM_THE_REQUEST - macros.keys()
    own = {name: _own(macro) for name, macro in macros.items()}
    wanted = {
        name: (set(_names(macro.body, "load")) & candidates) - own[name] for name, macro in macros.items()
    }
    callers: dict[str, set[str]] = {name: set() for name in macros}
    for name, macro in macros.items():
        for callee in {_callee(call) for call in macro.find_all(nodes.Call)} & macros.keys():
            callers[callee].add(name)
    waiting = [(caller, read) for name, names in wanted.items() for read in names for caller in callers[name]]
    while waiting:
        name, read = waiting.pop()
        if read not in own[name] and read not in wanted[name]:
            wanted[name].add(read)
            waiting += [(caller, read) for caller in callers[name]]
    return wanted


def _own(macro: nodes.Macro) -> set[str]:
    return {arg.name for arg in macro.args} | set(_names(macro.body, "store"))


def _callee(call: nodes.Call) -> str:
    return call.node.name if isinstance(call.node, nodes.Name) else ""


def _set_outside(body: Iterable[nodes.Node]) -> set[str]:
    """The names that a template sets where it does so for all that follows: not in loops and macros."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, nodes.Assign | nodes.AssignBlock):
            names.update(_names([node.target], "store"))
        elif not isinstance(node, SCOPES):
            names |= _set_outside(node.iter_child_nodes())
    return names


def _names(body: Iterable[nodes.Node], context: str) -> Iterator[str]:
    """The variables that nodes and all within them load or store."""
    for node in body:
        if isinstance(node, nodes.Name) and node.ctx == context:
            yield node.name
        yield from _names(node.iter_child_nodes(), context)
