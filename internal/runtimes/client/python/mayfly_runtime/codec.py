"""JSON to and from the handler, as AWS's client has it: with its separators, with NaN, with decimals written as numbers,
named tuples as objects, bytes as text.

It goes straight to the C coder that the json module wraps, since importing json costs more than all of this client. What
that cannot do (to word an error, to write a decimal) imports json then.
"""

import sys

try:
    import _json
except ImportError:  # not part of every build
    _json = None

_SPACE = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Scan:
    """The settings that the C scanner reads off its argument."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__
    array_hook = None


def _make(default, string):
    """The C encoder: a function of a value and 0 that returns pieces of text."""
    return _json.make_encoder({}, default, string, None, ": ", ", ", False, False, True)


try:
    # Neither is documented, so they are tried before they are relied on.
    _scan = _json.make_scanner(_Scan)
    if _scan("[1]", 0) != ([1], 3) or "".join(_make(None, _json.encode_basestring)([1], 0)) != "[1]":
        _scan = None
except Exception:
    _scan = None


def decode(data):
    """The value of a JSON text in bytes. Raises ValueError, worded as json.loads does."""
    if _scan is not None:
        try:
            text = str(data, "utf-8")
            start, end = 0, len(text)
            while start < end and text[start] in _SPACE:
                start += 1
            value, at = _scan(text, start)
            while at < end and text[at] in _SPACE:
                at += 1
            if at == end:
                return value
        except Exception:  # SystemError among them, from a scanner that misses the module with its error's type
            pass
    import json

    return json.loads(data)


class _Slow(Exception):
    """A value needs the slow encoder."""


def _default(value):
    """What the C encoder asks for a value that it does not know."""
    if isinstance(value, bytes):
        return str(value, "utf-8")
    decimal = sys.modules.get("decimal")  # no module, no decimals
    if decimal is not None and isinstance(value, decimal.Decimal):
        raise _Slow()
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


class Encoder:
    """Writes results; ascii escapes all that is not ASCII, as AWS did until Python 3.11."""

    def __init__(self, ascii):
        self._ascii = ascii
        if _scan is not None:
            self._string = _json.encode_basestring_ascii if ascii else _json.encode_basestring

    def encode(self, value):
        """The JSON text. Raises TypeError, ValueError or RecursionError for what has none."""
        if _has_named_tuple(value):
            try:
                value = _plain(value)
            except RecursionError:
                pass  # circular or too deep: the encoder says which
        if _scan is None:
            import json

            return json.dumps(value, ensure_ascii=self._ascii, default=_default_of_json)
        try:
            return "".join(_make(_default, self._string)(value, 0))
        except _Slow:
            pass

        def write(text):
            return str(text) if isinstance(text, _Literal) else self._string(text)

        return "".join(_make(_default_of_decimals, write)(value, 0))


def _default_of_decimals(value):
    try:
        return _default(value)
    except _Slow:
        return float("nan") if value.is_nan() else _Literal(value)


def _default_of_json(value):
    """Without the C encoder, a decimal is written as the nearest float."""
    try:
        return _default(value)
    except _Slow:
        return float(value)


class _Literal(str):
    """A text that stands in the output as it is."""


_LEAVES = frozenset((str, int, float, bool, type(None), bytes))


def _has_named_tuple(value):
    seen = set()
    todo = [(value,)]
    for values in todo:  # which grows on the way
        for v in values:
            if type(v) in _LEAVES:
                continue
            if isinstance(v, dict):
                children = v.values()
            elif isinstance(v, (list, tuple)):
                if hasattr(v, "_asdict"):
                    return True
                children = v
            else:
                continue
            if id(v) not in seen:
                seen.add(id(v))
                todo.append(children)
    return False


def _plain(value):
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
