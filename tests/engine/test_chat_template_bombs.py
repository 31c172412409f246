"""A hostile template ends soon, in little memory, with one clear error, and reaches nothing outside."""

import threading
import time
import tracemalloc

import pytest

from engine.errors import ModelFileError, RequestError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with()))
MESSAGES = [{"role": "user", "content": "hi"}]
A = "{% set a = 'x' * 100000 %}"
DOUBLING = "{% set ns = namespace(s='a') %}{% for i in range(60) %}"
SEARCH = "{% set l = range(50000) | list %}{% for i in range(99999) %}"
NESTING = "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = "

# A chain of 20 000 generators ended the process when CPython dropped it.
DEEP = "{% set ns = namespace(s=range(9)) %}{% for i in range(20000) %}{% set ns.s = "
OWN = "{% set l = [] %}{% set k = [] %}"
# Two to the 19th places for one empty list, which then fills.
WIDE = (
    "{% set ns = namespace(s=l) %}{% for i in range(19) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
    "{% for i in range(999) %}{% do l.append(i) %}{% endfor %}"
)

MEMORY = {
    "times": "{{ 'a' * 10**9 }}",
    "list times": "{{ ([0] * 10**9) | length }}",
    "center": "{{ 'a'.center(10**9) }}",
    "center filter": "{{ 'a' | center(1000000000) }}",
    "mapped center": "{{ ['a'] | map('center', 10**9) | list }}",
    "filter block": "{% filter center(1000000000) %}x{% endfilter %}",
    "attr center": "{{ ('a' | attr('center'))(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ '1'.zfill(10**9) }}",
    "safe string": "{{ ('a' | safe).center(10**9) }}",
    "markup": "{% autoescape true %}{% set x %}a{% endset %}{{ x.ljust(10**9) }}{% endautoescape %}",
    "format": "{{ '{:>1000000000}'.format('a') }}",
    "format computed": "{{ '{:>{w}}'.format('a', w=10**9) }}",
    "format many": A + "{{ ('{0}' * 100000).format(a) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "percent precision": "{{ '%.1000000000f' % 1.0 }}",
    "percent filter": "{{ '%1000000000d' | format(1) }}",
    "percent many": A + "{{ ('%(a)s' * 100000) % {'a': a} }}",
    "replace": A + "{{ a.replace('x', a) }}",
    "replace empty": A + "{{ a.replace('', a) }}",
    "replace filter": A + "{{ a | replace('x', a) }}",
    "join string": A + "{{ a.join(a) }}",
    "join": A + "{{ a.join(range(50000) | map('string')) }}",
    "join filter": A + "{{ range(50000) | join(a) }}",
    "concatenation": DOUBLING + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "addition": DOUBLING + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "set block": DOUBLING + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    "list addition": NESTING + "ns.s + ns.s %}{% endfor %}",
    "indent": "{{ ('\n' * 100000) | indent(10000, true, true) }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(1000000000) | list }}",
    "split": "{{ ('a ' * 1000000).split() | length }}",
    "split at": "{{ ('a' * 1000000).split('a') | length }}",
    "characters": "{{ ('é' * 1000000) | list | length }}",
    "title": "{{ ('a ' * 1000000) | title }}",
    "wordcount": "{{ ('a ' * 1000000) | wordcount }}",
    "map": "{{ (['x' * 10000] * 100000) | map('upper') | list }}",
    "sort": "{{ (['x' * 10000] * 100000) | sort }}",
    "translate": A + "{{ a.translate({120: a}) }}",
    "expandtabs": "{{ ('\t' * 100000).expandtabs(100000) }}",
    "to_bytes": "{{ (10).to_bytes(1000000000, 'big') }}",
    "bytes": "{{ 'a'.encode().center(10**9) }}",
    "spread": "{{ dict(*('é' * 1000000)) }}",
    "literal": "{% for i in range(100000) %}" + "x" * 10000 + "{% endfor %}",
    "literal in macro": "{% macro m() %}{% for i in range(9999) %}" + "x" * 10000
    + "{% endfor %}{% endmacro %}{{ m() }}",
    "slices": "{% set a = 'x' * 1000000 %}{{ [" + "a[1:]," * 1000 + "] }}",
    "tojson": "{{ ('\x00' * 1000000) | tojson(ensure_ascii=true) | tojson | tojson | tojson }}",
    "tojson separators": "{{ range(9999) | list | tojson(separators=('x' * 100000, ':')) }}",
    "tojson indented deep": "{% set ns = namespace(s=[1] * 9999) %}{% for i in range(90) %}{% set ns.s = [ns.s] %}"
    "{% endfor %}{{ ns.s | tojson(indent=16) }}",
    "parsed JSON": "{{ ('[' ~ '[],' * 1000000 ~ '1]') | from_json | length }}",
    "tojson indent": "{{ [[[]]] | tojson(indent=1000000000) }}",
    "power": "{{ 2 ** 100000000 }}",
    "product": NESTING + "2 if i == 0 else ns.s * ns.s %}{% endfor %}",
    "round": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "int": "{{ ('f' * 1000000) | int(base=16) }}",
}  # fmt: skip

STEPS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "filtered loops": "{% for a in range(99999) %}{% for b in range(9999) if 0 %}{% endfor %}{% endfor %}",
    "range": "{{ range(10**12) | list | length }}",
    "sums": "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "sum of lists": "{{ ([[1]] * 100000) | sum(start=[]) }}",
    "wide macro": "{% macro m(d) %}{% if d %}{{ m(d-1) }}{{ m(d-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "endless block": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "recursive loop": "{% for x in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "nested callers": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 18 + "x" + "{% endcall %}" * 18,
    "searches": SEARCH + "{% if -1 in l %}{% endif %}{% endfor %}",
    "tests": SEARCH + "{% if -1 is in l %}{% endif %}{% endfor %}",
    "counts": SEARCH + "{{ l.count(-1) }}{% endfor %}",
    "searches one after the other": SEARCH + "{% if -1 in l %}{% endif %}" * 2000 + "{% endfor %}",
    "printed tree": NESTING + "[ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "compared trees": NESTING + "[ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}"
    "{{ ns.s == ns.t }}",
    "hashed tree": NESTING + "(ns.s, ns.s) %}{% endfor %}{{ {ns.s: 1} }}",
    "dict tree": NESTING + "dict(a=ns.s, b=ns.s) %}{% endfor %}{{ ns.s | tojson }}",
    "filtered tree": NESTING + "([ns.s] * 4) | batch(2) | list %}{% endfor %}{{ ns.s }}",
    "argument tree": "{% macro m(d) %}{% if d %}{{ m(d-1, varargs, varargs) }}{% else %}{{ varargs }}"
    "{% endif %}{% endmacro %}{{ m(60, 1) }}",
    "deep list": "{% set ns = namespace(s=[]) %}{% for i in range(50000) %}"
    "{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
    "deep dict": DEEP + "{'a': ns.s} %}{% endfor %}{{ ns.s | tojson }}",
    "deep tuple": DEEP + "(ns.s,) %}{% endfor %}{{ ns.s | string }}",
    "lazy batches": DEEP + "ns.s | batch(1) %}{% endfor %}{{ ns.s | list | length }}",
    "lazy slices": DEEP + "ns.s | slice(1) %}{% endfor %}{{ ns.s | list }}",
    "lazy maps": DEEP + "ns.s | map('string') %}{% endfor %}{{ ns.s | list }}",
    "recursive loop on itself": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "callers of callers": "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
    "macro on its list": "{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}",
    "list in itself": OWN + "{% do l.append(l) %}{{ l }}",
    "list in itself as JSON": OWN + "{% do l.append(l) %}{{ l | tojson }}",
    "lists in themselves compared": OWN + "{% do l.append(l) %}{% do k.append(k) %}{{ l == k }}",
    "lists in themselves sorted": OWN + "{% do l.append(l) %}{% do k.append(k) %}{{ [l, k] | sort }}",
    "lists in themselves added": OWN + "{% do l.append(l) %}{{ l + l }}",
    "list in itself as an argument": OWN + "{% do l.append(l) %}{% macro m(x) %}{% endmacro %}{{ m(l) }}",
    "list filled after it was weighed": OWN + WIDE + "{{ ns.s }}",
    "list filled before it is compared": OWN + WIDE + "{{ ns.s == ns.s | list }}",
    "list filled before it is searched": OWN + WIDE + "{{ 1 in ns.s }}",
    "list filled before it is tested": OWN + WIDE + "{{ ns.s is eq([]) }}",
    "list filled before a filter": OWN + WIDE + "{{ [ns.s, ns.s | list] | max }}",
    "list that grows under its loop": OWN + "{% do l.append(1) %}{% for x in l %}{% do l.append(x) %}{% endfor %}",
    "list weighed after each append": OWN + "{% for i in range(9999) %}{% do l.append(i) %}{% if l == k %}{% endif %}"
    "{% endfor %}",
    "mapping in itself": "{% set m = {} %}{% set m.a = m %}{{ m }}",
    "mapping in itself as JSON": "{% set m = {} %}{% set m.a = m %}{{ m | tojson }}",
    "message in itself": "{% set m = messages[0] %}{% set m.a = messages %}{{ messages }}",
    "message in itself compared": "{% set m = messages[0] %}{% set m.a = messages %}{{ messages == [m] }}",
    "mapping filled after it was weighed": "{% set m = {'a': [1] * 999} %}{% for i in range(60) %}"
    "{% set m.a = [m.a, m.a] %}{% endfor %}{{ m }}",
    "messages weighed after each key": "{% set m = messages[0] %}{% for i in range(99999) %}{% set m.a = i %}"
    "{% if messages == [i] %}{% endif %}{% endfor %}",
    "parsed JSON, deep": "{{ ('[' * 100000) | from_json }}",
    "parsed JSON again and again": "{% set t = '[' ~ '1,' * 9999 ~ '1]' %}{% for i in range(9999) %}"
    "{% set x = t | from_json %}{% endfor %}",
    "long date": "{{ strftime_now('%Y' * 100000) }}",
}  # fmt: skip

OUTSIDE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ raise_exception.__globals__.x }}",
    "{{ messages.append(1) }}",
    "{% set m = messages[0] %}{% set m.a = 1 %}{{ messages.append(1) }}",
    "{% set range.a = 1 %}",
    "{% set messages.a = 1 %}",
    "{% set self.a = 1 %}",
    "{{ messages.pop() }}",
    "{{ [].extend(messages) }}",
    "{{ messages.clear() }}",
    "{{ {}.update(a=1) }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ {}.fromkeys([1]) }}",
    "{{ lipsum() }}",
    "{{ self.__init__() }}",
    "{{ (range(2) | map('upper')).gi_frame.f_back }}",
]


def refusal(source):
    try:
        ChatTemplate(source, TOKENIZER).render(MESSAGES)
    except (RequestError, ModelFileError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", STEPS)
def test_a_template_cannot_run_on(name):
    start = time.thread_time()
    message = refusal(STEPS[name])
    assert time.thread_time() - start < 2
    assert message is not None
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORY)
def test_a_template_cannot_fill_the_memory(name):
    tracemalloc.start()
    try:
        message = refusal(MEMORY[name])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100e6
    assert message is not None
    assert "\n" not in message


@pytest.mark.parametrize("source", OUTSIDE)
def test_a_template_reaches_nothing_outside(source):
    message = refusal(source)
    assert message is not None
    assert "chat template" in message


MACROS = {
    "a chain": "".join(f"{{% macro m{i}() %}}{{{{ m{i + 1}() }}}}{{{{ x }}}}{{% endmacro %}}" for i in range(400)),
    "a crowd": "".join(f"{{% macro m{i}() %}}{{{{ x ~ y }}}}{{% endmacro %}}{{{{ m{i}() }}}}" for i in range(400)),
    "many names": "{% macro m() %}" + "".join(f"{{{{ x{i} }}}}" for i in range(400)) + "{% endmacro %}"
    + "".join(f"{{% for x{i} in [] %}}{{{{ m() }}}}{{% endfor %}}" for i in range(400)),
}  # fmt: skip


@pytest.mark.parametrize("name", MACROS)
def test_macros_that_read_their_callers_are_compiled_soon(name):
    source = (
        MACROS[name] + "{% for x in [1] %}{% for y in [1] %}{% endfor %}{% endfor %}{{ messages[0].content }}"
    )
    start = time.thread_time()
    assert "hi" in ChatTemplate(source, TOKENIZER).render(MESSAGES)
    assert time.thread_time() - start < 10


def test_a_chain_of_lazy_filters_has_its_result() -> None:
    source = DEEP.replace("20000", "2000") + "ns.s | map('string') %}{% endfor %}{{ ns.s | join }}"
    assert ChatTemplate(source, TOKENIZER).render(MESSAGES) == "012345678"


def test_a_lazy_filter_is_read_once_and_is_true_as_in_jinja() -> None:
    source = "{% set g = [] | map('string') %}{{ 'true' if g }} "
    source += "{% set g = 'ab' | map('upper') %}{{ g | join }}{{ g | list }}"
    assert ChatTemplate(source, TOKENIZER).render(MESSAGES) == "true AB[]"


def test_a_cancelled_request_renders_no_further() -> None:
    cancelled = threading.Event()
    cancelled.set()
    chat = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", TOKENIZER)
    with pytest.raises(RequestError, match="cancelled"):
        chat.prompt(MESSAGES, cancelled=cancelled)


def test_trying_a_hostile_template_out_costs_no_more_than_one_request() -> None:
    start = time.thread_time()
    ChatTemplate("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", TOKENIZER)
    assert time.thread_time() - start < 2


def test_a_namespace_that_holds_itself_can_be_printed():
    source = "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}{{ [ns] }}"
    assert ChatTemplate(source, TOKENIZER).render(MESSAGES) == "<namespace>[<namespace>]"


def test_after_a_bomb_the_next_rendering_has_its_whole_budget():
    chat = ChatTemplate(
        "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}done", TOKENIZER
    )
    with pytest.raises(RequestError, match="beyond its budget: too many steps"):
        chat.render(MESSAGES, extra={"n": 5000})
    assert chat.render(MESSAGES, extra={"n": 100}) == "done"
