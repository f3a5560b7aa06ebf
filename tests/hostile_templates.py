"""Chat templates that mean harm, after the public advisories: CVE-2024-34359 (code in templates), CVE-2025-61620
(templates in requests that exhaust time and memory) and CVE-2025-62426 (their variables as arguments).

None of them may be rendered to anything: each is the error of whoever sent it.
"""

_LOOP = "{% for a in range(99999) %}"
_END = "{% endfor %}"
_MEGABYTE = "('x' * 1000000 * messages | length)"

ENDLESS = {
    "nested loops": _LOOP * 3 + _END * 3,
    "nested loops that write": "{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a * b %}" + _END * 2,
    "loops over products": "{% for a in range(99999) %}{{ '' if range(99999) | sum }}" + _END,
    "a filter over a filter": "{{ range(99999) | map('string') | map('list') | list | length * 0 }}" * 200,
    "one huge power": "{% set a = 10 ** (400000 * messages | length) %}{{ '' if a ** 99 % 7 }}",
    "one huge comparison": "{% set a = [0] * 99999 %}{% set b = [0] * 99999 %}{{ ([a] * 99999) == ([b] * 99999) }}",
    "a recursive loop": "{% for a in [range(9)] recursive %}{% for b in range(9) %}{{ loop(a) if 0 }}" + _END
    + "{% for c in range(99999) %}{% for d in range(99999) %}" + _END * 3,
    "a macro within loops": "{% macro m() %}{% for a in range(99999) %}{% endfor %}{% endmacro %}"
    "{% for b in range(99999) %}{% if m() %}{% endif %}" + _END,
    "a search without end": "{% for a in range(99999) %}{{ '' if 'y' in ("
    + _MEGABYTE + ") }}" + _END,
    "sorting": "{% for a in range(9999) %}{% set b = range(99999) | sort(reverse=true) %}" + _END,
    "replacing": f"{{% for a in range(9999) %}}{{% set b = {_MEGABYTE} | replace('x', 'yz') %}}" + _END,
    "words": "{% for a in range(999) %}{% set b = ('x ' * 999999 * messages | length) | wordwrap(2) %}" + _END,
}  # fmt: skip
"""Those that only the clock ends."""

HOSTILE = ENDLESS | {
    # memory
    "a huge text": "{{ 'x' * 4000000000 }}",
    "a huge list": "{% set a = [0] * 4000000000 %}",
    "a doubling text": "{% set n = namespace(a='x' * 9999) %}{% for i in range(30) %}{% set n.a = n.a ~ n.a %}" + _END,
    "a doubling list": "{% set n = namespace(a=[0]) %}{% for i in range(40) %}{% set n.a = n.a + n.a %}" + _END,
    "a wide text": "{{ 'x' | center(4000000000) }}",
    "a padded text": "{{ '%4000000000d' % 1 }}",
    "a formatted text": "{{ '{:>4000000000}'.format('x') }}",
    "an indented text": "{{ ('x\n' * 99999) | indent(99999) }}",
    "a shifted number": "{{ 2 ** 99999999999 }}",
    "much filler": "{{ lipsum(n=99999999, html=false) }}",
    # output
    "a long text": f"{{{{ {_MEGABYTE} * 9 }}}}",
    "a long text in pieces": "{% for a in range(99999) %}{{ 'x' * 999 }}" + _END,
    "digits without end": "{{ 9 ** 99999 }}",
    # depth
    "a macro of itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "two macros of each other": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "deep brackets": "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    "deep lists": "{{ " + "[" * 9000 + "]" * 9000 + " }}",
    "deep calls": "{{ a" + "(a" * 5000 + ")" * 5000 + " }}",
    "deep minus": "{{ " + "-" * 30000 + "1 }}",
    "deep not": "{{ " + "not " * 9000 + "1 }}",
    "deep attributes": "{{ a" + ".a" * 9000 + " }}",
    "deep filters": "{{ a" + "|e" * 9000 + " }}",
    "deep loops": "{% for a in [1] %}" * 2000 + _END * 2000,
    "deep conditions": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "a deep sum": "{{ 1" + "+1" * 20000 + " }}",
    # a way out of the sandbox
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "classes by name": "{{ ''['__class__']['__mro__'] }}",
    "classes by a filter": "{{ '' | attr('__class__') | attr('__mro__') }}",
    "classes by an escaped name": "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'].__mro__ }}",
    "classes of a map": "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
    "the globals of cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "the globals of lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "the globals of joiner": "{{ joiner.__init__.__globals__.os.environ }}",
    "the globals of namespace": "{{ namespace.__init__.__globals__ }}{{ namespace.__init__.__globals__.os.x }}",
    "the globals of our own": "{{ raise_exception.__globals__['jinja2'].x }}",
    "the code of our own": "{{ strftime_now.__code__.co_consts[0] }}",
    "the template itself": "{{ self._TemplateReference__context.environment.x }}",
    "the loader": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.system('id') }}",
    "a parent": "{% extends 'x' %}",
    "format's way": "{{ '{0.__class__.__mro__}'.format('') }}{{ '{0.__class__.x}'.format('').x.y }}",
    "format_map's way": "{{ '{x.__class__.__init__.__globals__}'.format_map({'x': lipsum}) }}",
    "a generator's frame": "{{ (messages | map('upper')).gi_frame.f_globals.x }}",
    "changing what it was given": "{{ messages.append(1) }}",
    "changing a message": "{{ messages[0].update(content='x') }}",
    # nonsense
    "an open tag": "{% if",
    "an unknown tag": "{% nosuchtag %}",
    "an unknown filter": "{{ 'x' | nosuchfilter }}",
    "nothing there": "{{ nothing.at.all }}",
    "half a character": "{{ '\\ud800' }}",
    "bytes": "{{ 'x'.encode().decode('utf-16-be', 'x').y.z }}",
    "a refusal of its own": "{{ raise_exception('no' * 99999) }}",
    "a division": "{{ 1 / 0 }}",
    "a date of nonsense": "{{ strftime_now(messages) }}",
    "nul": "{{ '\0' }}{{ nothing.at.all }}",
}  # fmt: skip
"""By what they try."""
