"""Jinja2's sandbox with a budget: a template can neither reach out nor run on.

The compiler is told (sandbox_code.py) to write a step at the head of every block of statements and in every
comparison, and to hand every value a template makes or compares to the budget. Calls, operators, filters and
tests report at run time. What could be large at once is measured beforehand. Compile-time evaluation is off:
it would happen unbudgeted.
"""

import functools
import threading
import types
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from jinja2 import nodes
from jinja2.defaults import DEFAULT_TESTS
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.runtime import ChainableUndefined, Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing, pass_context

from engine.text.budget import MAX_INT_BITS, Budget, exceeded
from engine.text.guard import Guard
from engine.text.message_forms import Unprintable
from engine.text.sandbox_code import BudgetedCode, GenerationTag
from engine.text.sandbox_filters import bounded_filters
from engine.text.sandbox_globals import SilentNamespace, bounded_range, raise_exception, strftime_now
from engine.text.sandbox_macros import hand_over_loop_variables
from engine.text.sandbox_strings import (
    BYTES_PER_PIECE,
    CUTTING_METHODS,
    check_method,
    check_percent,
    percent_values,
)

SCOPES = ("_loop_vars", "_block_vars")  # what Jinja passes along with the arguments of a call
MAX_SPREAD = 1000  # values after a * in a call
CHANGING_METHODS = frozenset({"append", "pop"})  # on a list that the template has made itself
ALLOWED_METHODS = {
    list: {"index", "count", "copy"},
    tuple: {"index", "count"},
    range: {"index", "count"},
    dict: {"get", "items", "keys", "values", "copy"},
    float: {"is_integer"},
}


class Sandbox(ImmutableSandboxedEnvironment):
    """One for all renderings of a template; each runs with its own budget and guard, on its own thread."""

    code_generator_class = BudgetedCode
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols", GenerationTag],
        )
        self.finalize = self._printed
        self._active = threading.local()
        self.filters = bounded_filters(self)
        self.tests = {name: self._counted_test(test) for name, test in DEFAULT_TESTS.items()}
        del self.globals["lipsum"]
        self.globals |= {
            "range": bounded_range,
            "namespace": SilentNamespace,
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
        }

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        hand_over_loop_variables(source)
        return super()._generate(source, *args, **kwargs)

    @contextmanager
    def running(self, budget: Budget, guard: Guard, unprintable: Unprintable) -> Iterator[None]:
        """The budget, the guard and the unprintable values of what this thread renders next."""
        self._active.budget, self._active.guard, self._active.unprintable = budget, guard, unprintable
        try:
            yield
        finally:
            del self._active.budget, self._active.guard, self._active.unprintable

    @property
    def budget(self) -> Budget:
        return self._active.budget

    @property
    def guard(self) -> Guard:
        return self._active.guard

    @property
    def unprintable(self) -> Unprintable:
        return self._active.unprintable

    def step(self, n: int = 1) -> bool:
        return self._active.budget.step(n)

    def charge(self, n_bytes: int) -> None:
        self._active.budget.charge(n_bytes)

    def admit(self, value: Any) -> Any:
        return self._active.budget.admit(value)

    def weigh(self, value: Any) -> Any:
        """Before Python walks through a value in C. Most are texts and numbers, which hold no others."""
        return self._active.budget.weigh(value) if isinstance(value, list | tuple | dict) else value

    def text_of(self, value: Any) -> str:
        """A value as it is printed."""
        self.unprintable.check(value)
        return self.admit(str(self.weigh(value)))

    def counted(self, values: Iterator[Any]) -> Iterator[Any]:
        for value in values:
            self.step()
            yield value

    def cut(self, value: Any) -> Any:
        """A piece of a value. Pieces of strings must not join into a special token (guard.py)."""
        if isinstance(value, list):
            self.charge(BYTES_PER_PIECE * len(value))
        return self.admit(self._active.guard.cut(value))

    def replaced(self, text: str, old: str, new: str, result: str) -> str:
        return self._active.guard.replaced(text, old, new, result)

    def settable(self, target: Any) -> None:
        """Before a template sets an attribute: of a namespace, or of a mapping, which is this rendering's copy."""
        if type(target) is dict:
            self.budget.change_mapping()
        elif not isinstance(target, Namespace):
            what = "what is undefined" if target is missing else type(target).__name__
            raise TemplateRuntimeError(f"a template may not set an attribute of {what}")

    def chainable(self, value: Any) -> Any:
        """A value whose attributes are about to be tested for being there."""
        return ChainableUndefined() if isinstance(value, Undefined) else value

    def spread(self, values: Any) -> Any:
        """The values after a * or ** in a call."""
        if not isinstance(values, Sized) or len(values) > MAX_SPREAD:
            raise exceeded(f"a call with more than {MAX_SPREAD} arguments")
        return values

    def join_strings(self, parts: tuple[Any, ...]) -> str:
        """a ~ b ~ c"""
        texts = [self.text_of(part) for part in parts]
        self.budget.require(sum(map(len, texts)))
        return self.admit("".join(texts))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.step()
        self.weigh(left)
        self.weigh(right)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * right > MAX_INT_BITS:
                raise exceeded("an integer too large")
        elif operator == "*":
            self._check_repeat(left, right)
        elif operator == "%" and isinstance(left, str):
            check_percent(self.budget, left, right)
            for value in percent_values(left, right):
                self.unprintable.check(value)
        return self.admit(super().call_binop(context, operator, left, right))

    def _check_repeat(self, left: Any, right: Any) -> None:
        sequence, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(sequence, str | list | tuple) and isinstance(times, int):
            self.budget.require(8 * len(sequence) * times)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Jinja's rule, and the methods of a list that `call` leaves to the budget."""
        changes = isinstance(obj, list) and attr in CHANGING_METHODS
        return changes or super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Jinja's own spelling of the first parameters: a template may name its keywords as it likes."""
        __self.step()
        given = {name: value for name, value in kwargs.items() if name not in SCOPES}
        for value in (*args, *given.values()):
            __self.weigh(value)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            return __self._call_string(owner, __obj, list(args), given)
        if isinstance(__obj, types.BuiltinMethodType):
            if isinstance(owner, list) and __obj.__name__ in CHANGING_METHODS:
                return __self.budget.change(owner, __obj.__name__, args)
            __self._require_allowed(owner, __obj.__name__)
        return __self.admit(super().call(__context, __obj, *args, **kwargs))

    def _call_string(self, text: str, method: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name = method.__name__
        check_method(self.budget, text, name, args, kwargs)
        if name == "format":
            for value in (*args, *kwargs.values()):
                self.unprintable.check(value)
        result = method(*args, **kwargs)
        if name in CUTTING_METHODS:
            return self.cut(result)
        if name == "replace":
            result = self.replaced(text, args[0], args[1], result)
        return self.admit(result)

    def _require_allowed(self, owner: Any, name: str) -> None:
        if name not in ALLOWED_METHODS.get(type(owner), ()):
            raise SecurityError(f"a template may not call {type(owner).__name__}.{name}")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """str.format as Jinja sandboxes it, with __self__ so that `call` sees a string's method."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            wrapped.__self__ = value.__self__  # type: ignore[attr-defined]
        return wrapped

    @pass_context
    def _printed(self, context: Context, value: Any) -> str:
        """Every {{ value }} on its way out."""
        self.step()
        return self.text_of(value)

    def _counted_test(self, test: Any) -> Callable[..., Any]:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step()
            for value in args:
                self.weigh(value)
            return test(*args, **kwargs)

        return counted
